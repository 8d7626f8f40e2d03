"""For all tests: properties have no deadline, since a busy machine would make them depend on timing."""

from hypothesis import settings

settings.register_profile("rheostat", deadline=None)
settings.load_profile("rheostat")
