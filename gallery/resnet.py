"""ResNet-18 without its classifier: the encoder of the gallery's FCN, ResNet U-Net, DeepLab and PSPNet.

Follows He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016): table 1, column "18-layer", with the
shortcuts of option B, a 1x1 convolution where the shape changes; initialized as in He et al., "Delving Deep into
Rectifiers" (2015). For finer maps than stride 32, DeepLab (Chen et al., 2017, section 3.1) removes the stride of 2 from
the last stages and dilates the 3x3 filters behind it, which then read the pixels that were neighbors before. So a
network can be trained at stride 16 and used at stride 8.

Shapes: N images, H x W pixels.
"""
from torch import Tensor, nn

from gallery.common import initialize

WIDTHS = (1, 1, 2, 4, 8)  # channels of the five maps, the stem's, then the stages', in multiples of `width`
BLOCKS = (2, 2, 2, 2)     # basic blocks in each stage


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut: (N, C_in, H, W) -> (N, C_out, H/stride, W/stride).

    dilations: of the two convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        first, second = ({"padding": d, "dilation": d, "bias": False} for d in dilations)  # batch norm has the bias
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, **first)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, **second)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False),
                                            nn.BatchNorm2d(out_channels))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # The pixels are chosen before the 1x1 convolution, not by its stride: with a stride of 2 and at most 8 channels
        # its gradients in channels_last write past the end of their memory on a CPU (torch 2.15).
        shortcut = x if self.downsample is None else self.downsample(x[:, :, ::self.stride, ::self.stride])
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """Images float32 (N, 3, H, W) to five maps. H and W must divide by `output_stride`, the last map's: 32, 16 or 8.

    The maps have `widths` channels (64, 64, 128, 256, 512 at the paper's width of 64) at strides 2, 4, 8, 16 and 32,
    but none above `output_stride`. The parameters have torchvision's names. Raises ValueError for another output
    stride.
    """

    def __init__(self, output_stride: int = 32, width: int = 64) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"expected an output stride of 8, 16 or 32, got {output_stride}")
        self.widths = tuple(factor * width for factor in WIDTHS)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        reached, dilation = 4, 1
        for number, blocks in enumerate(BLOCKS, start=1):
            before, after = self.widths[number - 1:number + 1]
            step = 1 if number == 1 else 2
            stride = step if reached < output_stride else 1
            spread = dilation * step // stride  # a stride that is left out becomes dilation
            setattr(self, f"layer{number}", nn.Sequential(
                BasicBlock(before, after, stride, (dilation, spread)),
                *(BasicBlock(after, after, 1, (spread, spread)) for _ in range(blocks - 1))))
            reached, dilation = reached * stride, spread
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.relu(self.bn1(self.conv1(x)))]                 # (N, width, H/2, W/2)
        maps.append(self.layer1(self.maxpool(maps[0])))             # (N, width, H/4, W/4)
        for stage in (self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))                            # (N, 2 width, H/8, W/8), ...
        return maps
