"""From the Bicep of infra/ to ARM templates, without the Bicep command line (it is not a package of any registry)."""
