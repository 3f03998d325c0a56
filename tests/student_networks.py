"""Fifty networks as students write them: each a class of few channels, (N, 3, 256, 512) to logits (N, 8, 256, 512).

`FORMS` has them by what is peculiar to each, with whether its cost can be proved by export and replay.
"""
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Base(nn.Module):
    """A convolution to stride 4, something peculiar there, and a head; `peculiar` keeps (N, 8, H/4, W/4)."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.Conv2d(8, 8, 1)
        self.make()

    def make(self):
        pass

    def peculiar(self, x):
        return x

    def forward(self, x):
        y = self.peculiar(F.relu(self.stem(x)))
        return F.interpolate(self.head(y), scale_factor=4, mode="bilinear", align_corners=False)


class Plain(Base):
    pass


class BatchNorm(Base):
    def make(self):
        self.more = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))

    def peculiar(self, x):
        return self.more(x)


class PaddedSkip(Base):
    def make(self):
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)

    def peculiar(self, x):
        y = self.up(F.max_pool2d(x, 3, 2))
        dy, dx = x.shape[2] - y.shape[2], x.shape[3] - y.shape[3]
        return x + F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])


class SqueezeExcite(Base):
    def make(self):
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())

    def peculiar(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class MultiHeadAttention(Base):
    def make(self):
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def peculiar(self, x):
        small = F.adaptive_avg_pool2d(x, (8, 16)).flatten(2).transpose(1, 2)
        y, _ = self.attention(small, small, small)
        return x + F.interpolate(y.transpose(1, 2).reshape(-1, 8, 8, 16), size=x.shape[2:])


class ScaledDotProduct(Base):
    def peculiar(self, x):
        small = F.avg_pool2d(x, 8).flatten(2).transpose(1, 2)
        y = F.scaled_dot_product_attention(small, small, small).transpose(1, 2).reshape(-1, 8, 8, 16)
        return x + F.interpolate(y, size=x.shape[2:], mode="nearest")


class RowLSTM(Base):
    def make(self):
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def peculiar(self, x):
        rows = F.avg_pool2d(x, 8).permute(0, 2, 3, 1)
        y, _ = self.lstm(rows.flatten(0, 1))
        return x + F.interpolate(y.reshape(rows.shape).permute(0, 3, 1, 2), size=x.shape[2:])


class MaxUnpool(Base):
    def make(self):
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def peculiar(self, x):
        return self.unpool(*self.pool(x))


class FlipTwice(Base):
    def forward(self, x):
        return (super().forward(x) + super().forward(x.flip(3)).flip(3)) / 2


class Autocast(Base):
    def peculiar(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.head(x)
        return y.float()


class NoGrad(Base):
    def peculiar(self, x):
        with torch.no_grad():
            return x - x.mean()


class Prints(Base):
    def peculiar(self, x):
        print("shape", x.shape)
        return x


class ItemScale(Base):
    def make(self):
        self.scale = nn.Parameter(torch.tensor(0.5))

    def peculiar(self, x):
        return x * self.scale.item()


class MaskAssignment(Base):
    def peculiar(self, x):
        x = x.clone()
        x[x > 1] = 1
        return x


class CoordinateChannels(Base):
    def make(self):
        self.mix = nn.Conv2d(10, 8, 1)

    def peculiar(self, x):
        n, _, h, w = x.shape
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        return self.mix(torch.cat([x, torch.stack([ys, xs]).expand(n, 2, h, w)], 1))


class GridSample(Base):
    def peculiar(self, x):
        grid = F.affine_grid(torch.eye(2, 3)[None].repeat(len(x), 1, 1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class Counter(Base):
    def make(self):
        self.register_buffer("calls", torch.zeros(()))

    def peculiar(self, x):
        self.calls += 1
        return x


class Checkpointed(Base):
    def peculiar(self, x):
        return checkpoint(self.head, x, use_reentrant=False)


class NoiseInTraining(Base):
    def peculiar(self, x):
        return x + torch.randn_like(x) if self.training else x


class Einsum(Base):
    def peculiar(self, x):
        return torch.einsum("nchw,dc->ndhw", x, self.head.weight[:, :, 0, 0])


class UnfoldMatmul(Base):
    def make(self):
        self.weight = nn.Parameter(torch.randn(8, 72) / 9)

    def peculiar(self, x):
        return (self.weight @ F.unfold(x, 3, padding=1)).reshape(x.shape)


class TryExcept(Base):
    def peculiar(self, x):
        try:
            return x.reshape(-1, 8, 64, 128)
        except RuntimeError:
            return x


class LoopOverBatch(Base):
    def peculiar(self, x):
        return torch.stack([torch.tanh(image) for image in x])


class WeightNorm(Base):
    def make(self):
        self.more = parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))

    def peculiar(self, x):
        return self.more(x)


class SpectralNorm(WeightNorm):
    def make(self):
        self.more = parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * torch.sigmoid(x)


class OwnFunction(Base):
    def peculiar(self, x):
        return Swish.apply(x)


class Hooked(Base):
    def make(self):
        self.head.register_forward_hook(lambda module, args, out: out * 2)


class PixelShuffle(Base):
    def peculiar(self, x):
        return F.pixel_unshuffle(F.pixel_shuffle(torch.cat([x, x], 1), 2), 2)[:, :8]


class Dropout(Base):
    def make(self):
        self.drop = nn.Dropout2d(0.2)

    def peculiar(self, x):
        return self.drop(x)


class GroupNormGelu(Base):
    def make(self):
        self.norm = nn.GroupNorm(2, 8)

    def peculiar(self, x):
        return F.gelu(self.norm(x)).chunk(2, 1)[0].repeat(1, 2, 1, 1)


class HalfInside(Base):
    def peculiar(self, x):
        return F.conv2d(x.half(), self.head.weight.half()).float()


class DilatedASPP(Base):
    def make(self):
        self.arms = nn.ModuleList(nn.Conv2d(8, 4, 3, padding=rate, dilation=rate, groups=4) for rate in (1, 2, 4))
        self.merge = nn.Conv2d(12, 8, 1)

    def peculiar(self, x):
        return self.merge(torch.cat([arm(x) for arm in self.arms], dim=1))


class PyramidPooling(Base):
    def make(self):
        self.arms = nn.ModuleDict({str(bins): nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(8, 2, 1))
                                   for bins in (1, 2, 3, 6)})
        self.merge = nn.Conv2d(16, 8, 1)

    def peculiar(self, x):
        arms = [F.interpolate(arm(x), size=x.shape[-2:], mode="bilinear", align_corners=True)
                for arm in self.arms.values()]
        return self.merge(torch.cat([x, *arms], 1))


class ShiftByRoll(Base):
    def peculiar(self, x):
        left, right, up, down = x.split(2, 1)
        return self.head(torch.cat([left.roll(1, 3), right.roll(-1, 3), up.roll(1, 2), down.roll(-1, 2)], 1))


class ChannelsLastNorm(Base):
    def make(self):
        self.norm, self.mlp = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.gamma = nn.Parameter(torch.full((8,), 0.1))

    def peculiar(self, x):
        y = self.mlp(self.norm(x.permute(0, 2, 3, 1)))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Hardswish(Base):
    def make(self):
        self.more = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2d(8, 8, 1),
                                  nn.Hardsigmoid(), nn.PReLU(8), nn.ELU(), nn.LeakyReLU(0.1), nn.SiLU(), nn.Mish())

    def peculiar(self, x):
        return self.more(x)


class OwnNormalization(Base):
    def make(self):
        self.register_buffer("mean", torch.rand(1, 8, 1, 1))
        self.register_buffer("std", torch.rand(1, 8, 1, 1) + 1, persistent=False)

    def peculiar(self, x):
        return (x - self.mean) / self.std


class DictOfStages(Base):
    def peculiar(self, x):
        stages = {"fine": x, "coarse": F.avg_pool2d(x, 2)}
        return stages["fine"] + F.interpolate(stages["coarse"], scale_factor=2, mode="nearest")


class BranchOnShape(Base):
    def peculiar(self, x):
        if x.shape[2] % 2 or x.size(0) > 8 or self.training:
            return x
        return F.adaptive_max_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2)).repeat_interleave(2, 2).repeat(1, 1, 1, 2)


class SpatialAttention(Base):
    def make(self):
        self.conv = nn.Conv2d(2, 1, 7, padding=3, padding_mode="reflect")

    def peculiar(self, x):
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)))


class ChannelShuffle(Base):
    def peculiar(self, x):
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


class WeightStandardization(Base):
    def peculiar(self, x):
        weight = self.head.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.head.bias)


class Transformer(Base):
    def make(self):
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)

    def peculiar(self, x):
        small = F.avg_pool2d(x, 8)
        y = self.layer(small.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(small)
        return x + F.interpolate(y, size=x.shape[2:], mode="bicubic")


class Gru(Base):
    def make(self):
        self.gru = nn.GRU(8, 4, bidirectional=True)

    def peculiar(self, x):
        y, _ = self.gru(F.adaptive_avg_pool2d(x, 4)[0].flatten(1).T[:, None])
        return x + y.mean((0, 1))[:, None, None]


class ScriptedPart(Base):
    def make(self):
        self.more = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))

    def peculiar(self, x):
        return self.more(x)


class AddressedByNames(Base):
    def make(self):
        for k in range(3):
            setattr(self, f"block{k}", nn.Conv2d(8, 8, 1))

    def peculiar(self, x):
        for k in range(3):
            x = x + getattr(self, f"block{k}")(x)
        return x.clamp(-6, 6)


class BranchOnValues(Base):
    def peculiar(self, x):
        return x if x.mean() > 0 else -x


class Numpy(Base):
    def peculiar(self, x):
        return x * float(x.detach().numpy().mean())


class Fourier(Base):
    def peculiar(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[2:])


class Quantized(Base):
    def peculiar(self, x):
        return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).dequantize()


# The name of each, and whether its cost can be proved.
UNPROVED = (ScriptedPart, BranchOnValues, Numpy, Fourier, Quantized)
FORMS = {form.__name__: form not in UNPROVED for form in list(globals().values())
         if isinstance(form, type) and issubclass(form, Base) and form is not Base}
