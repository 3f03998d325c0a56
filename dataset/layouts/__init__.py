"""Fixed: how the data sets that the lab reads lie on disk, a file each; here is the list of them.

To read another one, write a Layout (base.py) and add it to LAYOUTS. The first that fits a folder is taken.
"""
from dataset.layouts.base import Layout
from dataset.layouts.camvid import CamVidColored, CamVidIndexed, CamVidStills
from dataset.layouts.cityscapes import Cityscapes
from dataset.layouts.kitti import Kitti
from dataset.layouts.voc import PascalVOC

CITYSCAPES = Cityscapes()
LAYOUTS: tuple[Layout, ...] = (CITYSCAPES, Kitti(), CamVidIndexed(), CamVidColored(), CamVidStills(), PascalVOC())
