"""Networks of other libraries that more than one test of the gallery compares with."""
import segmentation_models_pytorch as smp
from torch import nn


def dilated_encoder(output_stride: int) -> nn.Module:
    """smp's ResNet-18 at `output_stride`, with the dilations that torchvision gives to its deeper ResNets."""
    return undilate_first(smp.encoders.get_encoder("resnet18", weights=None, output_stride=output_stride))


def undilate_first(encoder: nn.Module) -> nn.Module:
    """smp also spreads the first convolution of a stage, which lost its step; it shall read its input as it did."""
    for stage in (encoder.layer3, encoder.layer4):
        conv = stage[0].conv1
        conv.dilation = conv.padding = tuple(max(1, spread // 2) for spread in conv.dilation)
    return encoder
