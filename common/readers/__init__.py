"""Image readers, and the one spatial convention of the project.

Every array that a bundle handles, image, label and prediction alike, has MONAI's own axis order for files:
``(C, W, H)``, column index before row index, as ``monai.data.PILReader`` gives it and ``SaveImaged`` writes it back.
NumPy pictures, and everything in ``common.biomarkers``, are ``(H, W)`` or ``(H, W, 3)``. `to_picture` and
`from_picture` are the only two places that cross from one to the other.
"""

from common.readers.fundus import FundusReader, MaskReader, from_picture, to_picture
from common.readers.oct import BScanReader

__all__ = ["BScanReader", "FundusReader", "MaskReader", "from_picture", "to_picture"]
