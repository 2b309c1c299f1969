"""What to learn: named tasks out of pinned archives, folders of images, tables; few-shot sampling."""

from pitune.tasks._archives import Archive as Archive
from pitune.tasks._archives import fetch as fetch
from pitune.tasks._declared import declaration as declaration
from pitune.tasks._declared import declared_names as declared_names
from pitune.tasks._image import image_bytes as image_bytes
from pitune.tasks._image import image_hash as image_hash
from pitune.tasks._image import open_image as open_image
from pitune.tasks._inspect import Inspection as Inspection
from pitune.tasks._inspect import inspect as inspect
from pitune.tasks._pinned import ARCHIVES as ARCHIVES
from pitune.tasks._pocket_20 import POCKET_20 as POCKET_20
from pitune.tasks._registry import COLLECTIONS as COLLECTIONS
from pitune.tasks._registry import expand as expand
from pitune.tasks._registry import load_task as load_task
from pitune.tasks._registry import pull as pull
from pitune.tasks._registry import read_task as read_task
from pitune.tasks._registry import task_names as task_names
from pitune.tasks._registry import task_source as task_source
from pitune.tasks._sampling import FewShot as FewShot
from pitune.tasks._sampling import few_shot as few_shot
from pitune.tasks._source import Source as Source
from pitune.tasks._task import SPLITS as SPLITS
from pitune.tasks._task import Example as Example
from pitune.tasks._task import Split as Split
from pitune.tasks._task import Task as Task
from pitune.tasks._task_hash import data_hash as data_hash
