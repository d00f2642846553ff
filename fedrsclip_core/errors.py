"""Errors with one clear sentence for the person who has to act on them."""


class FedRSCLIPError(Exception):
    """Something the user can put right; ``str(error)`` is the sentence to show."""


class ConfigError(FedRSCLIPError):
    """A key, type, range or combination of settings that cannot work."""


class DataError(FedRSCLIPError):
    """Images, labels or partitions that cannot be used."""


class ModelError(FedRSCLIPError):
    """A model folder without a usable CLIP inside."""


class PrivateStoreError(FedRSCLIPError):
    """A private file that is damaged, foreign or in use."""


class WireError(FedRSCLIPError):
    """A message outside the closed schema of the wire contract."""


class PolicyError(FedRSCLIPError):
    """A run that the policy of a site does not let run there."""


class RunError(FedRSCLIPError):
    """A federation that cannot start or go on."""


class ReportError(FedRSCLIPError):
    """A folder of which no report can be made."""
