"""What to learn: named tasks out of pinned archives, folders of images, tables; few-shot sampling."""

from pitune.tasks._archives import Archive as Archive
from pitune.tasks._archives import fetch as fetch
from pitune.tasks._image import image_bytes as image_bytes
from pitune.tasks._image import image_hash as image_hash
from pitune.tasks._image import open_image as open_image
from pitune.tasks._pinned import ARCHIVES as ARCHIVES
from pitune.tasks._task import SPLITS as SPLITS
from pitune.tasks._task import Example as Example
from pitune.tasks._task import Split as Split
from pitune.tasks._task import Task as Task
