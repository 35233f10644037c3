"""What the tests of snicctl share."""
import os


def succeed(result):
    code, out, err = result
    assert code == 0, f'exit code {code}:\n{out}{err}'
    return out


def fail(result, code, *words):
    """It must end so, and say all of it; its words on both."""
    got, out, err = result
    assert got == code, f'exit code {got}, not {code}:\n{out}{err}'
    for word in words:
        assert word in out + err, f'"{word}" is not said:\n{out}{err}'
    return out + err


def path_of(bench, name):
    return os.path.join(bench.folder, name)


def write_file(bench, name, text):
    path = path_of(bench, name)
    with open(path, 'wb') as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return path
