"""What a file holds of a trained generator, and the generator's fields out of it."""

from dataclasses import asdict
from typing import Any

from openmm_cgan.cgan.artefact import Arrays, prefixed, under
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import FEATURIZATIONS, ConditionEncoding
from openmm_cgan.generators import made_again


def contents_of(gan: Any) -> tuple[dict[str, Any], Arrays]:
    """Metadata and arrays of a ConditionalGenerator that lies on the processor."""
    metadata = {
        "versions": gan.versions,
        "units": {"length": "nm", "angle": "rad", "temperature": "K"},
        "variables": [v.to_dict() for v in gan.variables],
        "topology_hash": gan.topology_hash,
        "molecule_hash": gan.molecule_hash,
        "system_hash": gan.system_hash,
        "temperature": gan.temperature,
        "featurization": type(gan.features).__name__,
        "generator": {"kind": type(gan.generator).__name__, **gan.generator.settings},
        "settings": asdict(gan.settings),
        "history": [{k: v for k, v in row.items() if k != "seconds"} for row in gan.history],
    }
    parts = {
        "features": gan.features.arrays(),
        "conditions": gan.conditions.arrays(),
        "generator": {k: v.numpy() for k, v in gan.generator.state_dict().items()},
    }
    arrays = {"cv_range": gan.cv_range, "condition_noise": gan.condition_noise}
    return metadata, arrays | prefixed(parts)


def fields_of(metadata: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Fields of the ConditionalGenerator whose `contents_of` these are, by name."""
    variables = [CollectiveVariable.from_dict(d) for d in metadata["variables"]]
    featurization = FEATURIZATIONS[metadata["featurization"]]
    hashes = ("topology_hash", "molecule_hash", "system_hash")
    return {
        "features": featurization.from_arrays(under(arrays, "features."), variables),
        "conditions": ConditionEncoding.from_arrays(under(arrays, "conditions."), variables),
        "generator": made_again(metadata["generator"], under(arrays, "generator.")),
        "cv_range": arrays["cv_range"],
        "settings": TrainingSettings(**metadata["settings"]),
        "history": metadata["history"],
        "temperature": metadata["temperature"],
        "condition_noise": arrays["condition_noise"],
        "versions": metadata["versions"],
        **{name: str(metadata.get(name) or "") for name in hashes},
    }
