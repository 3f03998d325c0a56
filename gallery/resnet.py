"""ResNet-18 without its classifier: the encoder of the gallery's FCN, ResNet U-Net, DeepLab and PSPNet.

Follows He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016): table 1's column "18-layer", with the
shortcuts of option B (a 1x1 convolution where the shape changes) and the initialisation of its predecessor (He et al.,
"Delving Deep into Rectifiers", 2015). A block learns what is to be added to its input, so that gradients reach the
first layers through the sums undamped.

Segmentation wants finer maps than the paper's last, of stride 32. DeepLab (Chen et al., "Rethinking Atrous Convolution
for Semantic Image Segmentation", 2017, section 3.1) takes the step of 2 out of the last stages and spreads the 3x3
filters behind it instead: on a map twice as fine, dilation 2 reads the pixels that were neighbours before. The first
convolution of such a stage, which took the step, reads its input as before; so with the same weights every second pixel
of the finer map is the coarser map's, and a network can be trained at stride 16 and used at stride 8.

Shapes: N pictures, H x W pixels.
"""
from torch import Tensor, nn

WIDTHS = (1, 1, 2, 4, 8)  # channels of the five maps, the stem's, then the stages', in multiples of `width`
BLOCKS = (2, 2, 2, 2)     # basic blocks a stage


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
        # Every other pixel is taken before the 1x1 convolution, not by it: with a step of 2 and 8 channels or fewer,
        # its gradients in channels_last overrun their memory on a CPU (torch 2.15).
        shortcut = x if self.downsample is None else self.downsample(x[:, :, ::self.stride, ::self.stride])
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """Pictures float32 (N, 3, H, W) to five maps; H and W divide by `output_stride`, the last map's: 32, 16 or 8.

    The maps have `widths`, at the paper's width 64, 64, 128, 256, 512 channels, at strides 2, 4, 8, 16, 32, or at
    `output_stride` where that is less. A width of 16 costs a sixteenth and trains on a CPU.
    The names of the parameters are those that torchvision gives to its ResNet-18.
    Raises ValueError for another output stride.
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
            stride = step if reached < output_stride else 1  # what is left of the step goes into the dilation
            spread = dilation * step // stride
            setattr(self, f"layer{number}", nn.Sequential(
                BasicBlock(before, after, stride, (dilation, spread)),
                *(BasicBlock(after, after, 1, (spread, spread)) for _ in range(blocks - 1))))
            reached, dilation = reached * stride, spread
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.relu(self.bn1(self.conv1(x)))]                 # (N, width, H/2, W/2)
        maps.append(self.layer1(self.maxpool(maps[0])))             # (N, width, H/4, W/4)
        for stage in (self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))                            # (N, 2 width, H/8, W/8), ...
        return maps
