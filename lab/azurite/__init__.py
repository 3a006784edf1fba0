"""Azurite, the storage emulator: installed from npm at a pinned version, run on free ports."""
