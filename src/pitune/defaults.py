"""The one place that says what is taken where nothing is named."""

BACKBONE = "pocket"

# collections of the library of that name: what studies compare, quickly too; tasks of images; what the demo runs on
TASKS = f"{BACKBONE}-20"
QUICK_TASKS = f"{BACKBONE}-quick"
IMAGE_TASKS = f"{BACKBONE}-images"
DEMO_SOURCES = f"{BACKBONE}-demo-sources"
DEMO_TARGETS = f"{BACKBONE}-demo-targets"
QUICK_DEMO_SOURCES = f"{BACKBONE}-demo-quick-sources"
QUICK_DEMO_TARGETS = f"{BACKBONE}-demo-quick-targets"
