"""How others write each family, a file per family: the dialects of `zoo.registry.dialect`."""
