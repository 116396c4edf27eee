"""Imports every module of the program, so that Python leaves the bytecode of all that it needs; run while the image is built."""

import importlib
import pkgutil

import cosell_sync

NOT_FOR_IMPORT = ("__main__", "migrations.env")  # these run when they are loaded

for module in pkgutil.walk_packages(cosell_sync.__path__, "cosell_sync."):
    if not module.name.endswith(NOT_FOR_IMPORT):
        importlib.import_module(module.name)
