from weight_patchers import errors


def _all_errors() -> list[type[errors.PatcherError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, errors.PatcherError)]


def test_codes_are_distinct_and_listed_in_the_module() -> None:
    kinds = _all_errors()
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)
        if kind is not errors.PatcherError:
            assert kind.code in str(errors.__doc__)
