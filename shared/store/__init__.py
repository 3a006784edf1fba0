"""The control plane's memory: Table and Queue storage behind ports. The only package that imports the storage SDKs."""
