"""The networks of the gallery by the names that its commands take, in the order of their ideas."""
import inspect
import re
from typing import NamedTuple

from training.networks import import_module, parse_name
from utils.lab import LabError

WIDE = 64  # the width of VGG's, ResNet's and the U-Net's first stage


class Entry(NamedTuple):
    """A network: what NETWORK in a notebook takes, its paper, what it is there to show."""

    network: str
    paper: str
    shows: str


FREQUENCY = "frequency"
CATALOG = {
    FREQUENCY: Entry("figures.report.baseline:ClassFrequency", "", "no learning: the usual class at each position"),
    "encoder-decoder": Entry("gallery.unet:EncoderDecoder", "", "what is lost without skips"),
    "unet": Entry("gallery.unet:UNet", "Ronneberger et al. 2015", "skips; transposed convolutions"),
    "unet-bilinear": Entry("gallery.unet:UNetBilinear", "Odena et al. 2016", "no checkerboard"),
    "fcn32s": Entry("gallery.fcn:FCN32s", "Long et al. 2015", "scores at stride 32, stretched"),
    "fcn16s": Entry("gallery.fcn:FCN16s", "Long et al. 2015", "and those at stride 16"),
    "fcn8s": Entry("gallery.fcn:FCN8s", "Long et al. 2015", "and those at stride 8"),
    "resnet-no-skips": Entry("gallery.resnet_unet:ResNetUNetNoSkips", "He et al. 2016", "the same without skips"),
    "resnet-unet": Entry("gallery.resnet_unet:ResNetUNet", "He et al. 2016", "a U-Net on an image classifier"),
    "segnet": Entry("gallery.segnet:SegNet", "Badrinarayanan et al. 2017", "pooling indices in place of skips"),
    "deeplabv3": Entry("gallery.deeplab:DeepLabV3", "Chen et al. 2017", "dilated filters side by side, stride 16"),
    "deeplabv3-os8": Entry("gallery.deeplab:DeepLabV3(output_stride=8)", "Chen et al. 2017", "the same at stride 8"),
    "deeplabv3plus": Entry("gallery.deeplab:DeepLabV3Plus", "Chen et al. 2018", "and one skip from stride 4"),
    "deeplabv3plus-os8": Entry("gallery.deeplab:DeepLabV3Plus(output_stride=8)", "Chen et al. 2018", "at stride 8"),
    "pspnet": Entry("gallery.pspnet:PSPNet", "Zhao et al. 2017", "means over 1, 4, 9 and 36 parts of the image"),
    "enet": Entry("gallery.enet:ENet", "Paszke et al. 2016", "real time: early strides, thin bottlenecks"),
    "fast-scnn": Entry("gallery.fast_scnn:FastSCNN", "Poudel et al. 2019", "real time: two paths that share a stem"),
    "espnetv2": Entry("gallery.espnetv2:ESPNetv2", "Mehta et al. 2019", "tiny: a pyramid of dilated depthwise filters"),
    "sinet": Entry("gallery.sinet:SINet", "Park et al. 2020", "tiny: pooled branches, information blocking"),
    "segformer": Entry("gallery.segformer:SegFormerB0", "Xie et al. 2021", "attention, and a head of linear layers"),
}

BASELINE = CATALOG[FREQUENCY].network  # it is counted, not trained


def find(name: str) -> tuple[str, str]:
    """The name and NETWORK of a network of the catalog, or of one given as module:Class(...).

    Raises LabError for any other name.
    """
    if name in CATALOG:
        return name, CATALOG[name].network
    if ":" not in name:
        raise LabError(f"expected a network of {', '.join(CATALOG)}, or module:Class, found {name!r}: python -m "
                       "gallery lists them")
    parse_name(name)
    return re.sub(r"[^\w.,=-]+", "-", name).strip("-"), name


def shrink(network: str, divisor: int) -> str:
    """The NETWORK with its width divided by `divisor`; unchanged if it names a width or its paper makes it small."""
    module, name, options = parse_name(network)
    made_by = getattr(import_module(module, network), name, None)
    if not isinstance(made_by, type):
        raise LabError(f"expected a class {name} in {module}, found none: check the spelling")
    known = inspect.signature(made_by).parameters
    width = known["width"].default if "width" in known else None
    if divisor == 1 or "width" in options or not isinstance(width, int) or width < WIDE:
        return network
    options["width"] = max(1, width // divisor)
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{module}:{name}({given})"
