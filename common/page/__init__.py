"""The page in the browser: photos in, overlays and biomarkers out. Needs the extra ``web``."""

from common.page.server import PageServer, PageSettings, build_app, serve

__all__ = ["PageServer", "PageSettings", "build_app", "serve"]
