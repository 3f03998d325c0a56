"""What more than one test of the gallery uses to compare with networks of other libraries."""
import segmentation_models_pytorch as smp
import torch
from torch import nn


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def unsettle_norms(network: nn.Module) -> nn.Module:
    """Gives each batch norm numbers of its own, so that they matter, and sets eval mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network.eval()


def dilated_encoder(output_stride: int) -> nn.Module:
    """smp's ResNet-18 at `output_stride`, with the dilations that torchvision gives to its deeper ResNets."""
    return undilate_first(smp.encoders.get_encoder("resnet18", weights=None, output_stride=output_stride))


def undilate_first(encoder: nn.Module) -> nn.Module:
    """smp also spreads the first convolution of a stage, which lost its step; it shall read its input as it did."""
    for stage in (encoder.layer3, encoder.layer4):
        conv = stage[0].conv1
        conv.dilation = conv.padding = tuple(max(1, spread // 2) for spread in conv.dilation)
    return encoder
