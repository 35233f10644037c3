/* The device tree of the configuration: what it sets, and how each mistake is told. By dtc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "app/config_tree.h"
#include "app/rig.h"

static struct config config;
static struct config_tree tree;
static char error[200];
static uint8_t blob[CONFIG_TREE_BYTES] __attribute__((aligned(8)));
static char source[1 << 16];

static void compile(void)
{
    rig_compile(source, blob, sizeof(blob));
}

static enum status open_blob(const char *words)
{
    uint32_t ignored;
    assert_int_equal(config_parse(words, &config, &ignored, error, sizeof(error)), STATUS_OK);
    error[0] = '\0';
    return config_tree_open(&tree, blob, sizeof(blob), &config, error, sizeof(error));
}

/* What a mistake is put into: a tree that is right, whose lines can be replaced. */
static const char base[] = "/dts-v1/;\n"
                           "/ { compatible = \"snic,config\";\n"
                           "options { cores = <2>; idle = \"poll\"; serial = \"AB\"; };\n"
                           "ports { port@1 { reg = <1>; ip = \"192.0.2.1/24\"; vlan = <7>; }; };\n"
                           "subsystems { s0: one { nqn = \"nqn.x:one\"; address = \"192.0.2.9\"; "
                           "port = <4421>; backoff-ms = <10 20>; }; };\n"
                           "volumes {\n"
                           "v0: a { wait-ms = <7>; data-path = \"terminate\"; paths {\n"
                           "path@0 { reg = <0>; subsystem = <&s0>; nsid = <3>; };\n"
                           "path@1 { reg = <1>; subsystem = <&s0>; nguid = [00 01 02 03 04 05 06 "
                           "07 08 09 0a 0b 0c 0d 0e 0f]; }; }; };\n"
                           "v1: b { paths { path@0 { reg = <0>; ram = \"1M\"; }; }; };\n"
                           "};\n"
                           "functions {\n"
                           "function@0 { reg = <0>; mdts = <5>;\n"
                           "namespace@1 { reg = <1>; volume = <&v0>; };\n"
                           "namespace@4 { reg = <4>; volume = <&v1>; };\n"
                           "}; /* end */ }; };\n";

/* `from` occurs once. */
static void replace(const char *from, const char *to)
{
    const char *at = strstr(base, from);
    assert_non_null(at);
    snprintf(source, sizeof(source), "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
}

static void tree_sets_options_ports_and_functions(void **state)
{
    (void)state;
    strcpy(source, base);
    compile();
    assert_true(config_tree_is_there(blob, sizeof(blob)));
    assert_int_equal(open_blob("cores=1 mdts=7 vlan=9"), STATUS_OK);
    assert_string_equal(error, "");
    assert_int_equal(config.cores, 2);
    assert_int_equal(config.idle, SCHED_IDLE_POLL);
    assert_string_equal(config.serial, "AB");
    assert_int_equal(config.ports[1].ip4.prefix_bits, 24);
    assert_int_equal(config.ports[1].vlan, 7);
    assert_int_equal(config.ports[0].vlan, 9); /* a word that the tree does not touch */
    assert_int_equal(config.functions[0].mdts, 5);
    assert_int_equal(config.functions[1].mdts, 7);
    assert_int_equal(config.functions[0].ns_count, 0);
    assert_int_equal(config.functions[0].ns_high, 4);
    assert_null(config.functions[0].hostnqn);
    assert_false(config.functions[0].has_hostid);
}

static void tree_gives_subsystems_and_volumes(void **state)
{
    (void)state;
    struct config_subsystem subsystem;
    struct config_volume volume;
    strcpy(source, base);
    compile();
    assert_int_equal(open_blob(""), STATUS_OK);
    assert_int_equal(tree.subsystem_count, 1);
    assert_int_equal(config_tree_subsystem(&tree, 0, &subsystem), STATUS_OK);
    assert_string_equal(subsystem.name, "one");
    assert_string_equal(subsystem.nqn, "nqn.x:one");
    assert_int_equal(subsystem.addr.bytes[15], 9);
    assert_int_equal(subsystem.port, 4421);
    assert_int_equal(subsystem.backoff_ms[1], 20);
    assert_int_equal(subsystem.keep_alive_ms, 0);
    assert_int_equal(tree.volume_count, 2);
    assert_int_equal(config_tree_volume(&tree, 0, &volume), STATUS_OK);
    assert_string_equal(volume.name, "a");
    assert_int_equal(volume.wait_ms, 7);
    assert_int_equal(volume.data_path, NVMF_PATH_TERMINATE);
    assert_int_equal(volume.path_count, 2);
    assert_int_equal(volume.paths[0].kind, CONFIG_PATH_REMOTE);
    assert_int_equal(volume.paths[0].id.nsid, 3);
    assert_int_equal(volume.paths[1].id.nguid[15], 15);
    assert_int_equal(tree.volumes[0].fn, 0);
    assert_int_equal(config_tree_volume(&tree, 1, &volume), STATUS_OK);
    assert_string_equal(config_tree_volume_name(&tree, 1), "b");
    assert_int_equal(volume.wait_ms, 25000);
    assert_int_equal(volume.paths[0].kind, CONFIG_PATH_RAM);
    assert_int_equal(volume.paths[0].size_bytes, 1 << 20);

    struct config_tree_ns ns = {0};
    assert_true(config_tree_next_ns(&tree, 0, &ns));
    assert_int_equal(ns.nsid, 1);
    assert_int_equal(ns.volume, 0);
    assert_true(config_tree_next_ns(&tree, 0, &ns));
    assert_int_equal(ns.nsid, 4);
    assert_int_equal(ns.volume, 1);
    assert_false(config_tree_next_ns(&tree, 0, &ns));
    ns.node = 0;
    assert_false(config_tree_next_ns(&tree, 1, &ns));
}

static const struct {
    const char *from;
    const char *to;
    const char *error; /* begins so */
} mistakes[] = {
    {"\"snic,config\"", "\"snic\"", "/: compatible: expected"},
    {"options {", "cores = <2>; options {", "/: cores: there is no such property"},
    {"options {", "options@1 { }; options {", "/options@1: expected options, ports"},
    {"serial = \"AB\";", "more { };", "/options/more: there is no such node"},
    {"ports {", "ports { mtu = <4200>;", "/ports: mtu: there is no such property"},
    {"vlan = <7>;", "lan@7 { };", "/ports/port@1/lan@7: there is no such node"},
    {"ports {", "ports { port@0 { reg = <1>; };", "/ports/port@1: reg: there is such a port"},
    {"subsystems {", "subsystems { port = <1>;", "/subsystems: port: there is no such"},
    {"backoff-ms = <10 20>;", "port { };", "/subsystems/one/port: there is no such node"},
    {"volumes {", "volumes { wait-ms = <1>;", "/volumes: wait-ms: there is no such property"},
    {"v1: b { paths {", "v1: b { paths { ram = \"1M\";", "/volumes/b/paths: ram: there is no"},
    {"v1: b { paths {", "v1: b { paths@1 { }; paths {", "/volumes/b/paths@1: there is no such"},
    {"v1: b { paths {", "v1: b { paths@1 {", "/volumes/b/paths@1: there is no such"},
    {"nsid = <3>;", "nsid = <3>; more { };", "/volumes/a/paths/path@0/more: there is no such"},
    {"functions {", "functions { queues = <1>;", "/functions: queues: there is no such property"},
    {"volume = <&v1>;", "volume = <&v1>; more { };",
     "/functions/function@0/namespace@4/more: there is no such node"},
    {"options {", "option {", "/option: expected options, ports"},
    {"cores = <2>", "cores = <5>", "/options: cores: expected 1 to 4, not '5'"},
    {"cores = <2>", "cores = <1 2>", "/options: cores: expected one cell or"},
    {"cores = <2>", "core = <2>", "/options: core: there is no such"},
    {"\"poll\"", "\"pol\"", "/options: idle: expected poll or adaptive"},
    {"192.0.2.1/24", "192.0.2.1", "/ports/port@1: ip: expected A.B.C.D/N"},
    {"vlan = <7>", "gateway = \"192.0.3.1\"", "/ports/port@1: gateway: expected a router"},
    {"vlan = <7>", "vlan = <4095>", "/ports/port@1: vlan: expected"},
    {"port@1 { reg = <1>", "port@1 { reg = <4>", "/ports/port@1: reg: expected one cell, <0>"},
    {"port@1 { reg = <1>;", "port@1 {", "/ports/port@1: reg: expected"},
    {"port@1", "eth@1", "/ports/eth@1: expected nodes port@0"},
    {"nqn = \"nqn.x:one\";", "", "/subsystems/one: nqn: is missing"},
    {"\"nqn.x:one\"", "\"\"", "/subsystems/one: nqn: expected a string"},
    {"\"nqn.x:one\"", "<1>", "/subsystems/one: nqn: expected a string"},
    {"address = \"192.0.2.9\";", "", "/subsystems/one: address: is missing"},
    {"192.0.2.9", "192.0.2.256", "/subsystems/one: address: expected an IPv4"},
    {"192.0.2.9", "0.0.0.0", "/subsystems/one: address: expected an IPv4"},
    {"192.0.2.9", "::", "/subsystems/one: address: expected an IPv4"},
    {"<4421>", "<65536>", "/subsystems/one: port: expected one cell, <1> to <65535>"},
    {"<10 20>", "<20 10>", "/subsystems/one: backoff-ms: expected two cells"},
    {"<10 20>", "<20>", "/subsystems/one: backoff-ms: expected two cells"},
    {"port = <4421>", "sq-flow-control = <1>", "/subsystems/one: sq-flow-control: expected no"},
    {"one {", "a-name-of-more-than-31-characters-a {",
     "/subsystems/a-name-of-more-than-31-"
     "characters-a: expected a name"},
    {"wait-ms = <7>", "wait-ms = <3600001>", "/volumes/a: wait-ms: expected one cell"},
    {"\"terminate\"", "\"direct\"", "/volumes/a: data-path: expected \"zero-copy\""},
    {"wait-ms = <7>", "block-size = <512>", "/volumes/a: block-size: expected with size"},
    {"wait-ms = <7>", "size = \"1000\"", "/volumes/a: size: expected whole blocks"},
    {"wait-ms = <7>", "size = <1>", "/volumes/a: size: expected a size with"},
    {"wait-ms = <7>", "uuid = \"1234\"", "/volumes/a: uuid: expected \"xxxx"},
    {"wait-ms = <7>", "status = \"off\"", "/volumes/a: status: expected \"okay\" or"},
    {"v1: b { paths {", "v1: b { ways {", "/volumes/b/ways: there is no such node"},
    {"v1: b { paths { path@0 { reg = <0>; ram = \"1M\"; }; };", "v1: b {",
     "/volumes/b: expected a node 'paths'"},
    {"v1: b { paths { path@0 { reg = <0>; ram = \"1M\"; }; };", "v1: b { paths { };",
     "/volumes/b/paths: expected a node path@0"},
    {"path@1 { reg = <1>; sub", "path@1 { reg = <2>; sub",
     "/volumes/a/paths/path@1: reg: expected paths in order"},
    {"path@1", "way@1", "/volumes/a/paths/way@1: expected nodes path@0"},
    {"subsystem = <&s0>; nsid = <3>;", "subsystem = <77>; nsid = <3>;",
     "/volumes/a/paths/path@0: subsystem: expected <&LABEL> of a node in /subsystems"},
    {"subsystem = <&s0>; nsid = <3>;", "subsystem = <&v1>; nsid = <3>;",
     "/volumes/a/paths/path@0: subsystem: expected <&LABEL>"},
    {"subsystem = <&s0>; nsid = <3>;", "nsid = <3>;",
     "/volumes/a/paths/path@0: expected one of subsystem, ram"},
    {"subsystem = <&s0>; nsid = <3>;", "subsystem = <&s0>; ram = \"1M\";",
     "/volumes/a/paths/path@0: expected one of subsystem, ram"},
    {"nsid = <3>;", "", "/volumes/a/paths/path@0: expected one of nsid, nguid"},
    {"nsid = <3>;", "nsid = <3>; uuid = \"6b1d9e0c-2f5a-4f8e-9a53-1c7e0d2b4a60\";",
     "/volumes/a/paths/path@0: expected one of nsid, nguid"},
    {"nsid = <3>;", "nsid = <0>;", "/volumes/a/paths/path@0: nsid: expected one cell"},
    {"[00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f]", "[00 01]",
     "/volumes/a/paths/path@1: nguid: expected [16 bytes]"},
    {"nsid = <3>;", "eui64 = [00 00 00 00 00 00 00 00];",
     "/volumes/a/paths/path@0: eui64: expected [8 bytes], not all zero"},
    {"nsid = <3>;", "nsid = <3>; drive-nsid = <1>;",
     "/volumes/a/paths/path@0: drive-nsid: expected with drive only"},
    {"nsid = <3>;", "nsid = <3>; block-size = <512>;",
     "/volumes/a/paths/path@0: block-size: expected with ram or null"},
    {"ram = \"1M\";", "ram = \"5K\"; block-size = <4096>;",
     "/volumes/b/paths/path@0: block-size: expected whole"},
    {"ram = \"1M\";", "ram = \"1M\"; block-size = <1024>;",
     "/volumes/b/paths/path@0: block-size: expected <512> or <4096>"},
    {"ram = \"1M\";", "ram = \"1M\"; nsid = <1>;",
     "/volumes/b/paths/path@0: expected one of nsid, nguid, uuid, eui64 with subsystem"},
    {"ram = \"1M\";", "drive = <8>;", "/volumes/b/paths/path@0: drive: expected one cell, <0>"},
    {"function@0 { reg = <0>;", "function@0 { reg = <4>;",
     "/functions/function@0: reg: expected one cell"},
    {"function@0", "fn@0", "/functions/fn@0: expected nodes function@0"},
    {"mdts = <5>;", "mdts = <9>;", "/functions/function@0: mdts: expected 1 to 8"},
    {"mdts = <5>;", "mtds = <5>;", "/functions/function@0: mtds: there is no such property"},
    {"mdts = <5>;", "hostid = \"x\";", "/functions/function@0: hostid: expected \"xxxx"},
    {"mdts = <5>;", "hostnqn = \"\";", "/functions/function@0: hostnqn: expected a string"},
    {"namespace@4 {", "ns@4 {", "/functions/function@0/ns@4: expected nodes namespace@1"},
    {"namespace@4 { reg = <4>", "namespace@4 { reg = <1>",
     "/functions/function@0/namespace@4: reg: expected identifiers in order"},
    {"namespace@4 { reg = <4>", "namespace@4 { reg = <1025>",
     "/functions/function@0/namespace@4: reg: expected one cell"},
    {"volume = <&v1>", "volume = <&s0>",
     "/functions/function@0/namespace@4: volume: expected <&LABEL> of a node in /volumes"},
    {"volume = <&v1>;", "",
     "/functions/function@0/namespace@4: volume: expected <&LABEL> of a node in /volumes"},
    {"/* end */", " function@1 { reg = <1>; namespace@1 { reg = <1>; volume = <&v0>; }; };",
     "/functions/function@1/namespace@1: volume: another function has it"},
    {"/* end */", " function@1 { reg = <0>; };",
     "/functions/function@1: reg: there is such a function already"},
};

static void each_mistake_names_node_and_property(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
        replace(mistakes[i].from, mistakes[i].to);
        compile();
        assert_int_equal(open_blob(""), STATUS_INVALID);
        if (strncmp(error, mistakes[i].error, strlen(mistakes[i].error)) != 0) {
            fail_msg("%s -> %s: '%s', not '%s'", mistakes[i].from, mistakes[i].to, error,
                     mistakes[i].error);
        }
    }
}

/* A volume in the NIC's RAM may be shown by several functions, as words have it. */
static void local_volume_of_two_functions_is_allowed(void **state)
{
    (void)state;
    replace("/* end */", " function@1 { reg = <1>; namespace@1 { reg = <1>; volume = <&v1>; }; };");
    compile();
    assert_int_equal(open_blob(""), STATUS_OK);
}

/* dtc -@ gives every node with a label a phandle. */
static void nodes_that_have_a_label_are_accepted(void **state)
{
    (void)state;
    static const char *const nodes[] = {"options {",    "port@1 { reg = <1>;",
                                        "s0: one {",    "v0: a {",
                                        "function@0 {", "namespace@1 { reg = <1>;"};
    for (uint32_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        char to[80];
        snprintf(to, sizeof(to), "%s phandle = <99>; linux,phandle = <99>;", nodes[i]);
        replace(nodes[i], to);
        compile();
        if (open_blob("") != STATUS_OK) {
            fail_msg("%s", error);
        }
    }
}

static void what_is_no_tree_is_refused(void **state)
{
    (void)state;
    memset(blob, 0, sizeof(blob));
    assert_false(config_tree_is_there(blob, sizeof(blob)));
    assert_int_equal(open_blob(""), STATUS_INVALID);
    strcpy(source, base);
    compile();
    assert_int_equal(config_tree_open(&tree, blob, 39, &config, error, sizeof(error)),
                     STATUS_INVALID);
    assert_int_equal(config_tree_open(&tree, blob, 200, &config, error, sizeof(error)),
                     STATUS_INVALID);
    blob[60] ^= 0xff; /* a tag of the structure block */
    assert_int_equal(open_blob(""), STATUS_INVALID);
    assert_string_equal(error, "/: it is no device tree, or it is damaged");
}

/* Every single byte that is wrong leads to an error or to another tree, never further. */
static void damaged_bytes_do_no_harm(void **state)
{
    (void)state;
    strcpy(source, base);
    compile();
    uint32_t bytes = (uint32_t)blob[6] << 8 | blob[7];
    for (uint32_t i = 0; i < bytes; i++) {
        for (uint32_t bit = 0; bit < 8; bit += 3) {
            blob[i] ^= (uint8_t)(1u << bit);
            (void)open_blob("");
            blob[i] ^= (uint8_t)(1u << bit);
        }
    }
    assert_int_equal(open_blob(""), STATUS_OK);
}

/* Compiles the block of a document that is a tree. */
static void compile_example(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t bytes = fread(source, 1, sizeof(source) - 1, file);
    fclose(file);
    source[bytes] = '\0';
    char *begin = strstr(source, "```dts\n");
    assert_non_null(begin);
    char *end = strstr(begin + 7, "```");
    assert_non_null(end);
    *end = '\0';
    memmove(source, begin + 7, (size_t)(end - begin) - 6);
    compile();
}

static void documented_examples_are_accepted(void **state)
{
    (void)state;
    compile_example("docs/spec/config.md");
    assert_int_equal(open_blob(""), STATUS_OK);
    assert_string_equal(config.functions[0].hostnqn, "nqn.2014-08.org.example:host-7");
    assert_int_equal(config.serve_wait_ms, 10000);
    assert_int_equal(tree.volume_count, 2);
    assert_int_equal(tree.subsystem_count, 2);
    compile_example("README.md");
    assert_int_equal(open_blob(""), STATUS_OK);
    assert_int_equal(tree.volumes[0].fn, 0);
}

static void limits_of_tables_are_errors(void **state)
{
    (void)state;
    static char subsystems[32768];
    uint32_t used = 0;
    for (uint32_t i = 0; i < CONFIG_SUBSYSTEMS; i++) {
        used += (uint32_t)snprintf(subsystems + used, sizeof(subsystems) - used,
                                   "n%u { nqn = \"x\"; address = \"192.0.2.9\"; };\n", i);
    }
    snprintf(subsystems + used, sizeof(subsystems) - used, "s0: one {");
    replace("s0: one {", subsystems);
    compile();
    assert_int_equal(open_blob(""), STATUS_INVALID);
    assert_string_equal(error, "/subsystems/one: is one too many");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_sets_options_ports_and_functions),
        cmocka_unit_test(tree_gives_subsystems_and_volumes),
        cmocka_unit_test(each_mistake_names_node_and_property),
        cmocka_unit_test(local_volume_of_two_functions_is_allowed),
        cmocka_unit_test(nodes_that_have_a_label_are_accepted),
        cmocka_unit_test(what_is_no_tree_is_refused),
        cmocka_unit_test(damaged_bytes_do_no_harm),
        cmocka_unit_test(documented_examples_are_accepted),
        cmocka_unit_test(limits_of_tables_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
