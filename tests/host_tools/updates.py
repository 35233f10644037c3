"""Tests of snicctl that change a board: configuration, images, restarts; images on this machine."""
import json
import os
import struct
import subprocess

from common import fail, path_of, succeed, write_file

HEAD = struct.Struct('<IIQQQII24s16s16x')
TREE = """/dts-v1/;
/ {
    compatible = "snic,config";
    ports { port@0 { reg = <0>; ip = "192.0.2.1/24"; mtu = <4200>; }; };
};
"""


# --- configuration, images -----------------------------------------------------------------------

def config_comes_back_as_it_went(bench):
    bench.end_boards()
    source = path_of(bench, 'c.dts')
    with open(source, 'w', encoding='utf-8') as file:
        file.write(TREE)
    assert 'no device tree' in succeed(bench.ask('good', ['config', 'get']))
    assert 'would take it' in succeed(bench.ask('good', ['config', 'check', source]))
    assert 'no device tree' in succeed(bench.ask('good', ['config', 'get']))
    assert 'in flash' in succeed(bench.ask('good', ['config', 'set', source]))
    assert 'ip = "192.0.2.1/24"' in succeed(bench.ask('good', ['config', 'get']))
    text = succeed(bench.ask('good', ['config', 'get', '--json']))
    bench.validate(text)
    tree = path_of(bench, 'c.dtb')
    succeed(bench.ask('good', ['config', 'get', '-o', tree]))
    assert 'in flash' in succeed(bench.ask('good', ['config', 'set', tree]))
    assert 'forgotten' in succeed(bench.ask('good', ['config', 'forget']))
    bench.end_boards()


def config_refused_says_why(bench):
    source = path_of(bench, 'c.dts')
    with open(source, 'w', encoding='utf-8') as file:
        file.write(TREE)
    for verb in ('set', 'check'):
        fail(bench.ask('refuses', ['config', verb, source]), 1, 'refuses it: /volumes/v0/paths/path@0: subsystem')
    assert 'forgotten' in succeed(bench.ask('refuses', ['config', 'forget']))
    fail(bench.ask('worn', ['config', 'set', source]), 1, 'the flash has not taken the tree')
    succeed(bench.ask('worn', ['config', 'check', source]))
    for words in (['forget'], ['set', source]):
        fail(bench.ask('no-flash', ['config', *words]), 1, 'no flash for a configuration')
        fail(bench.ask('old', ['config', *words]), 5, 'update the firmware')
    with open(source, 'w', encoding='utf-8') as file:
        file.write('no tree')
    code, _, err = bench.ask('good', ['config', 'set', source])
    assert code == 1 and 'dtc refuses' in err, err


def flat_image(bench, board='fake', version='0.2'):
    path = path_of(bench, 'flat.bin')
    data = bytearray(os.urandom(30000))
    HEAD.pack_into(data, 64, 0x48494e53, 1, 0x40200000, len(data), 50000, 2, 0, board.encode(),
                   version.encode())
    with open(path, 'wb') as file:
        file.write(data)
    return path


def make_key(bench, name):
    path = path_of(bench, name)
    subprocess.run(['openssl', 'genrsa', '-out', path, '2048'], stderr=subprocess.DEVNULL, check=True)
    return path


def signed_image(bench, **words):
    fit = path_of(bench, 'image.fit')
    key = make_key(bench, 'ours.key')
    succeed(bench.run(['image', 'build', flat_image(bench, **words), fit, '--key', key]))
    return fit, key


def image_shows_who_signed(bench):
    fit, key = signed_image(bench)
    out = succeed(bench.run(['image', 'show', fit, '--key', key]))
    assert 'key "ours": good' in out and 'version     0.2' in out, out
    bench.validate(succeed(bench.run(['image', 'show', fit, '--json', '--key', key])))
    code, out, _ = bench.run(['image', 'show', fit, '--key', make_key(bench, 'other.key')])
    assert code == 1 and 'NOT by' in out, out
    with open(fit, 'rb') as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    with open(fit, 'wb') as file:
        file.write(data)
    code, out, err = bench.run(['image', 'show', fit, '--key', key])
    assert code == 1 and 'damaged' in out + err, out + err
    with open(fit, 'wb') as file:
        file.write(data[:-100])
    code, _, err = bench.run(['image', 'show', fit])
    assert code == 1 and 'cut off' in err, err


def image_is_signed_again(bench):
    fit, _ = signed_image(bench)
    out = path_of(bench, 'again.fit')
    key = make_key(bench, 'new.key')
    assert 'key "new": good' in succeed(bench.run(['image', 'sign', fit, out, '--key', key]))
    code, _, err = bench.run(['image', 'sign', fit, out])
    assert code == 2 and '--key' in err, err


def flash_writes_and_activates(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    out = succeed(bench.ask('good', ['flash', fit]))
    assert 'version 0.2 for fake' in out and 'starts next' in out, out
    slots = json.loads(succeed(bench.ask('good', ['slots', '--json'])))['slots']
    assert slots[1]['trial'] and slots[1]['image_bytes'] == os.path.getsize(fit), slots
    assert 'not activated' in succeed(bench.ask('good', ['flash', fit, '--slot', '1', '--no-activate']))
    slots = json.loads(succeed(bench.ask('good', ['slots', '--json'])))['slots']
    assert not slots[1]['trial'], slots
    assert 'slot 1' in succeed(bench.ask('good', ['rollback']))
    assert 'would take it' in succeed(bench.ask('good', ['flash', fit, '--check']))
    bench.end_boards()


def flash_refuses_what_cannot_be(bench):
    fit, _ = signed_image(bench, board='other')
    code, _, err = bench.ask('good', ['flash', fit])
    assert code == 1 and 'for the board other, this one is fake' in err, err
    unsigned = path_of(bench, 'unsigned.fit')
    succeed(bench.run(['image', 'build', flat_image(bench), unsigned]))
    code, _, err = bench.ask('good', ['flash', unsigned])
    assert code == 1 and 'not signed' in err, err
    fit, _ = signed_image(bench)
    for words in ([], ['--check']):
        said = fail(bench.ask('refuses', ['flash', fit, *words]), 1,
                    'the board refuses it: the image is signed by another key')
        assert 'it the image' not in said and 'starts next' not in said, said
    fail(bench.ask('good', ['flash', fit, '--slot', '0']), 1, 'the slot is in use')
    fail(bench.ask('old', ['flash', fit, '--check']), 5, 'cannot check an image without writing')
    for word in ('--check', '--no-activate'):
        fail(bench.ask('good', ['flash', fit, '--reset', word]), 2)
    fail(bench.ask('no-flash', ['flash', fit]), 1, 'no flash for images')


# --- what is claimed is what the board's record says ----------------------------------------------

def flash_reset_waits_for_the_confirmation(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    out = succeed(bench.ask('good', ['flash', fit, '--reset']))
    assert 'back after' in out and 'firmware 0.2' in out and 'confirmed: it stays' in out, out
    slots = json.loads(succeed(bench.ask('good', ['slots', '--json'])))['slots']
    assert slots[1]['running'] and slots[1]['active'] and not slots[1]['trial'], slots
    assert not slots[0]['running'] and not slots[0]['active'], slots
    out = succeed(bench.ask('good', ['rollback', '--reset']))
    assert 'slot 0, version 0.1' in out and 'confirmed: it stays' in out, out
    bench.end_boards()


def activate_starts_what_waits(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    succeed(bench.ask('good', ['flash', fit]))
    out = succeed(bench.ask('good', ['activate']))
    assert 'its hosts wait' in out and 'firmware 0.2' in out and 'confirmed: it stays' in out, out
    fail(bench.ask('good', ['activate']), 1, 'no image waits')
    bench.end_boards()
    succeed(bench.ask('trial-fails', ['flash', fit]))
    fail(bench.ask('trial-fails', ['activate']), 1, 'back with the old image, slot 0')
    bench.end_boards()


def failed_trial_is_a_failure(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    said = fail(bench.ask('trial-fails', ['flash', fit, '--reset']), 1, 'back with the old image, slot 0',
                'the trial of slot 1, version 0.2')
    assert 'it stays' not in said, said
    succeed(bench.ask('trial-fails', ['rollback']))
    fail(bench.ask('trial-fails', ['reset']), 1, 'back with the old image')
    succeed(bench.ask('trial-fails', ['reset']))  # nothing was to be tried
    bench.end_boards()


def board_that_stays_away_is_said(bench):
    fail(bench.ask('stays-away', ['reset', '--timeout', '2']), 3, 'has not come back after 2 s')
    bench.end_boards()
    assert succeed(bench.ask('stays-away', ['reset', '--no-wait'])) == 'the board resets\n'
    bench.end_boards()


def flash_that_forgets_is_found_out(bench):
    fit, _ = signed_image(bench)
    said = fail(bench.ask('worn', ['flash', fit]), 1, 'its record does not have the image')
    assert 'written and verified' not in said, said
    said = fail(bench.ask('worn', ['rollback']), 1, 'does not say that slot 1 starts next')
    assert 'snicctl reset' not in said, said


def confirmation_is_waited_for(bench):
    assert 'confirmed: it stays' in succeed(bench.ask('good', ['confirm']))
    bench.end_boards()
    said = fail(bench.ask('trial', ['confirm']), 1, 'has not confirmed the running image')
    assert 'it stays' not in said, said


# --- boards that restart while something is waited for ---------------------------------------------

def start_trial(bench, mode):
    """Its second image runs, on trial."""
    bench.end_boards()
    fit, _ = signed_image(bench)
    succeed(bench.ask(mode, ['flash', fit]))
    assert 'on trial: it confirms itself' in succeed(bench.ask(mode, ['reset']))


def trial_that_dies_is_not_confirmed(bench):
    """It answers HELLO, and is gone when the record is read: the old image has no trial."""
    fit, _ = signed_image(bench)
    for words in (['activate'], ['flash', fit, '--reset'], ['rollback', '--reset']):
        bench.end_boards()
        if words == ['activate']:
            succeed(bench.ask('dies-confirming', ['flash', fit]))
        said = fail(bench.ask('dies-confirming', words), 1, 'back with the old image, slot 0')
        assert 'it stays' not in said, said
    start_trial(bench, 'dies-confirming')
    said = fail(bench.ask('dies-confirming', ['confirm']), 1, 'slot 1, version 0.2, does not run any more')
    assert 'it stays' not in said, said
    bench.end_boards()


def rollback_of_a_trial_ends_it(bench):
    """The other slot is the active one before, too."""
    bench.end_boards()
    said = succeed(bench.ask('trial', ['rollback']))
    assert 'slot 1, version' in said and 'snicctl reset' in said and 'activate' not in said, said
    fail(bench.ask('trial', ['activate']), 1, 'no image waits')
    bench.end_boards()
    said = succeed(bench.ask('trial', ['rollback', '--reset']))
    assert 'confirmed: it stays' in said, said
    said = fail(bench.ask('trial-kept', ['rollback']), 1, 'does not say that slot 1 starts next')
    assert 'snicctl reset' not in said, said
    said = fail(bench.ask('trial-sticks', ['rollback', '--reset']), 1, 'back with slot 0, not with slot 1')
    assert 'it stays' not in said, said
    bench.end_boards()


def young_board_that_restarts_has_not_ended_an_update(bench):
    """It is older than it was when it was asked."""
    bench.end_boards()
    fit, _ = signed_image(bench)
    said = fail(bench.ask('dies-checking', ['flash', fit, '--check']), 1, 'the board has restarted meanwhile')
    assert 'would take it' not in said, said
    bench.end_boards()


def update_without_record_is_nonsense(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    for words in (['flash', fit, '--check'], ['flash', fit], ['rollback']):
        said = fail(bench.ask('no-update', words), 1, 'makes no sense')
        assert 'would take it' not in said and 'written' not in said and 'starts next' not in said, said
    said = fail(bench.ask('cuts', ['flash', fit]), 1, 'its record does not have the image')
    assert 'written and verified' not in said, said
    bench.end_boards()


def late_answer_is_taken(bench):
    """What is asked for is done once."""
    bench.end_boards()
    assert succeed(bench.ask('late', ['run', 'volume', 'detach', 'scratch'])) == 'done\n'
    bench.end_boards()
    fit, _ = signed_image(bench)
    assert 'starts next' in succeed(bench.ask('late', ['flash', fit]))
    bench.end_boards()


def reset_that_does_nothing_is_said(bench):
    said = fail(bench.ask('never-resets', ['reset', '--timeout', '2']), 1, 'has not reset after 2 s')
    assert 'come back' not in said and 'back after' not in said, said


TESTS = [(f.__name__, f) for f in (
    config_comes_back_as_it_went, config_refused_says_why, image_shows_who_signed,
    image_is_signed_again, flash_writes_and_activates, flash_refuses_what_cannot_be,
    flash_reset_waits_for_the_confirmation, activate_starts_what_waits, failed_trial_is_a_failure,
    board_that_stays_away_is_said,
    flash_that_forgets_is_found_out, confirmation_is_waited_for, trial_that_dies_is_not_confirmed,
    rollback_of_a_trial_ends_it, young_board_that_restarts_has_not_ended_an_update,
    update_without_record_is_nonsense, late_answer_is_taken, reset_that_does_nothing_is_said)]
