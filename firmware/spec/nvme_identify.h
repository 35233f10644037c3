/*
 * NVM Express: data structures of the Identify command. Nothing else.
 *
 * Source: NVM Express Base Specification, revision 1.4, section 5.15.
 */
#ifndef SPEC_NVME_IDENTIFY_H
#define SPEC_NVME_IDENTIFY_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"

#define NVME_IDENTIFY_BYTES 4096

/* CNS, cdw10 bits 7:0 (figure 244); CNTID, cdw10 bits 31:16 */
enum nvme_identify_cns {
    NVME_CNS_NS = 0x00,
    NVME_CNS_CTRL = 0x01,
    NVME_CNS_ACTIVE_NS_LIST = 0x02,
    NVME_CNS_NS_DESCRIPTORS = 0x03,
    NVME_CNS_ALLOCATED_NS_LIST = 0x10,
    NVME_CNS_ALLOCATED_NS = 0x11,
    NVME_CNS_NS_CTRL_LIST = 0x12,
    NVME_CNS_CTRL_LIST = 0x13,
};
#define NVME_IDENTIFY_CNS_SHIFT   0
#define NVME_IDENTIFY_CNS_BITS    8
#define NVME_IDENTIFY_CNTID_SHIFT 16
#define NVME_IDENTIFY_CNTID_BITS  16

/* Entries of a namespace list (4.10) and of a controller list behind its count (4.9). */
#define NVME_NS_LIST_ENTRIES   1024
#define NVME_CTRL_LIST_ENTRIES 2047

/* Power state descriptor, figure 248 */
struct nvme_power_state {
    uint16_t max_power; /* centiwatts, or 0.0001 W with flags bit 0; 0: not reported */
    uint8_t reserved2;
    uint8_t flags;
    uint32_t entry_latency_us;
    uint32_t exit_latency_us;
    uint8_t relative_read_throughput;
    uint8_t relative_read_latency;
    uint8_t relative_write_throughput;
    uint8_t relative_write_latency;
    uint16_t idle_power;
    uint8_t idle_power_scale;
    uint8_t reserved19;
    uint16_t active_power;
    uint8_t active_power_workload;
    uint8_t reserved23[9];
};
ASSERT_SIZE(struct nvme_power_state, 32);
ASSERT_OFFSET(struct nvme_power_state, relative_read_throughput, 12);
ASSERT_OFFSET(struct nvme_power_state, active_power, 20);

/* Identify Controller, figure 247. Field names are the specification's. */
struct nvme_identify_ctrl {
    uint16_t vid;
    uint16_t ssvid;
    uint8_t sn[20];
    uint8_t mn[40];
    uint8_t fr[8];
    uint8_t rab;
    uint8_t ieee[3];
    uint8_t cmic;
    uint8_t mdts;
    uint16_t cntlid;
    uint32_t ver;
    uint32_t rtd3r_us;
    uint32_t rtd3e_us;
    uint32_t oaes;
    uint32_t ctratt;
    uint16_t rrls;
    uint8_t reserved102[9];
    uint8_t cntrltype;
    uint8_t fguid[16];
    uint16_t crdt1;
    uint16_t crdt2;
    uint16_t crdt3;
    uint8_t reserved134[106];
    uint8_t reserved240_nvme_mi[16];

    uint16_t oacs;
    uint8_t acl;
    uint8_t aerl;
    uint8_t frmw;
    uint8_t lpa;
    uint8_t elpe;
    uint8_t npss;
    uint8_t avscc;
    uint8_t apsta;
    uint16_t wctemp_kelvin;
    uint16_t cctemp_kelvin;
    uint16_t mtfa;
    uint32_t hmpre;
    uint32_t hmmin;
    uint8_t tnvmcap[16];
    uint8_t unvmcap[16];
    uint32_t rpmbs;
    uint16_t edstt;
    uint8_t dsto;
    uint8_t fwug;
    uint16_t kas; /* unit 100 ms; 0: no Keep Alive */
    uint16_t hctma;
    uint16_t mntmt;
    uint16_t mxtmt;
    uint32_t sanicap;
    uint32_t hmminds;
    uint16_t hmmaxd;
    uint16_t nsetidmax;
    uint16_t endgidmax;
    uint8_t anatt;
    uint8_t anacap;
    uint32_t anagrpmax;
    uint32_t nanagrpid;
    uint32_t pels;
    uint8_t reserved356[30];
    uint16_t cqt_ms; /* Command Quiesce Time: revision 2.1; before, reserved and 0 */
    uint8_t reserved388[124];

    uint8_t sqes;
    uint8_t cqes;
    uint16_t maxcmd;
    uint32_t nn;
    uint16_t oncs;
    uint16_t fuses;
    uint8_t fna;
    uint8_t vwc;
    uint16_t awun;
    uint16_t awupf;
    uint8_t nvscc;
    uint8_t nwpc;
    uint16_t acwu;
    uint16_t reserved534;
    uint32_t sgls;
    uint32_t mnan;
    uint8_t reserved544[224];
    uint8_t subnqn[256];
    uint8_t reserved1024[768];
    uint8_t reserved1792_fabrics[256];
    struct nvme_power_state psd[32];
    uint8_t vendor[1024];
};
ASSERT_SIZE(struct nvme_identify_ctrl, NVME_IDENTIFY_BYTES);
ASSERT_OFFSET(struct nvme_identify_ctrl, rab, 72);
ASSERT_OFFSET(struct nvme_identify_ctrl, cmic, 76);
ASSERT_OFFSET(struct nvme_identify_ctrl, cntlid, 78);
ASSERT_OFFSET(struct nvme_identify_ctrl, ver, 80);
ASSERT_OFFSET(struct nvme_identify_ctrl, oaes, 92);
ASSERT_OFFSET(struct nvme_identify_ctrl, ctratt, 96);
ASSERT_OFFSET(struct nvme_identify_ctrl, cntrltype, 111);
ASSERT_OFFSET(struct nvme_identify_ctrl, crdt1, 128);
ASSERT_OFFSET(struct nvme_identify_ctrl, oacs, 256);
ASSERT_OFFSET(struct nvme_identify_ctrl, aerl, 259);
ASSERT_OFFSET(struct nvme_identify_ctrl, npss, 263);
ASSERT_OFFSET(struct nvme_identify_ctrl, wctemp_kelvin, 266);
ASSERT_OFFSET(struct nvme_identify_ctrl, hmpre, 272);
ASSERT_OFFSET(struct nvme_identify_ctrl, tnvmcap, 280);
ASSERT_OFFSET(struct nvme_identify_ctrl, rpmbs, 312);
ASSERT_OFFSET(struct nvme_identify_ctrl, kas, 320);
ASSERT_OFFSET(struct nvme_identify_ctrl, sanicap, 328);
ASSERT_OFFSET(struct nvme_identify_ctrl, hmmaxd, 336);
ASSERT_OFFSET(struct nvme_identify_ctrl, anatt, 342);
ASSERT_OFFSET(struct nvme_identify_ctrl, pels, 352);
ASSERT_OFFSET(struct nvme_identify_ctrl, cqt_ms, 386);
ASSERT_OFFSET(struct nvme_identify_ctrl, sqes, 512);
ASSERT_OFFSET(struct nvme_identify_ctrl, nn, 516);
ASSERT_OFFSET(struct nvme_identify_ctrl, oncs, 520);
ASSERT_OFFSET(struct nvme_identify_ctrl, vwc, 525);
ASSERT_OFFSET(struct nvme_identify_ctrl, acwu, 532);
ASSERT_OFFSET(struct nvme_identify_ctrl, sgls, 536);
ASSERT_OFFSET(struct nvme_identify_ctrl, subnqn, 768);
ASSERT_OFFSET(struct nvme_identify_ctrl, reserved1792_fabrics, 1792);
ASSERT_OFFSET(struct nvme_identify_ctrl, psd, 2048);
ASSERT_OFFSET(struct nvme_identify_ctrl, vendor, 3072);

#define NVME_OAES_NS_ATTRIBUTE        BIT32(8)
#define NVME_OAES_FIRMWARE            BIT32(9)
#define NVME_CTRATT_HOST_ID_128       BIT32(0)
#define NVME_CTRLTYPE_IO              1
#define NVME_OACS_FIRMWARE            BIT32(2)
#define NVME_OACS_DOORBELL_BUFFERS    BIT32(8)
#define NVME_FRMW_SLOT1_RO            BIT32(0)
#define NVME_FRMW_SLOTS_SHIFT         1
#define NVME_FRMW_WITHOUT_RESET       BIT32(4)
#define NVME_FWUG_BYTES               4096u /* unit of FWUG */
#define NVME_LPA_SMART_PER_NS         BIT32(0)
#define NVME_LPA_EFFECTS              BIT32(1)
#define NVME_LPA_EXTENDED_DATA        BIT32(2) /* NUMDU, LPOL, LPOU */
#define NVME_ONCS_COMPARE             BIT32(0)
#define NVME_ONCS_WRITE_UNCORRECTABLE BIT32(1)
#define NVME_ONCS_DSM                 BIT32(2)
#define NVME_ONCS_WRITE_ZEROES        BIT32(3)
#define NVME_ONCS_FEATURE_SELECT      BIT32(4) /* Save and Select fields */
#define NVME_ONCS_RESERVATIONS        BIT32(5)
#define NVME_ONCS_TIMESTAMP           BIT32(6)
#define NVME_ONCS_VERIFY              BIT32(7)
#define NVME_FUSES_COMPARE_WRITE      BIT32(0)
#define NVME_VWC_PRESENT              BIT32(0)
#define NVME_VWC_FLUSH_ALL            (UINT32_C(3) << 1) /* Flush takes NSID FFFFFFFFh */
#define NVME_SGLS_SUPPORTED           UINT32_C(1) /* no alignment nor granularity requirement */

/* LBA format, figure 246 */
struct nvme_lba_format {
    uint16_t metadata_bytes;
    uint8_t lba_shift;
    uint8_t relative_performance;
};
ASSERT_SIZE(struct nvme_lba_format, 4);

/* Identify Namespace, figure 245 */
struct nvme_identify_ns {
    uint64_t nsze;
    uint64_t ncap;
    uint64_t nuse;
    uint8_t nsfeat;
    uint8_t nlbaf; /* zeroes based */
    uint8_t flbas;
    uint8_t mc;
    uint8_t dpc;
    uint8_t dps;
    uint8_t nmic;
    uint8_t rescap;
    uint8_t fpi;
    uint8_t dlfeat;
    uint16_t nawun;
    uint16_t nawupf;
    uint16_t nacwu;
    uint16_t nabsn;
    uint16_t nabo;
    uint16_t nabspf;
    uint16_t noiob;
    uint8_t nvmcap[16];
    uint16_t npwg;
    uint16_t npwa;
    uint16_t npdg;
    uint16_t npda;
    uint16_t nows;
    uint8_t reserved74[18];
    uint32_t anagrpid;
    uint8_t reserved96[3];
    uint8_t nsattr;
    uint16_t nvmsetid;
    uint16_t endgid;
    uint8_t nguid[16];
    uint8_t eui64[8];
    struct nvme_lba_format lbaf[16];
    uint8_t reserved192[192];
    uint8_t vendor[3712];
};
ASSERT_SIZE(struct nvme_identify_ns, NVME_IDENTIFY_BYTES);
ASSERT_OFFSET(struct nvme_identify_ns, nsfeat, 24);
ASSERT_OFFSET(struct nvme_identify_ns, dlfeat, 33);
ASSERT_OFFSET(struct nvme_identify_ns, noiob, 46);
ASSERT_OFFSET(struct nvme_identify_ns, nvmcap, 48);
ASSERT_OFFSET(struct nvme_identify_ns, npwg, 64);
ASSERT_OFFSET(struct nvme_identify_ns, anagrpid, 92);
ASSERT_OFFSET(struct nvme_identify_ns, nsattr, 99);
ASSERT_OFFSET(struct nvme_identify_ns, nguid, 104);
ASSERT_OFFSET(struct nvme_identify_ns, eui64, 120);
ASSERT_OFFSET(struct nvme_identify_ns, lbaf, 128);
ASSERT_OFFSET(struct nvme_identify_ns, vendor, 384);

#define NVME_NSFEAT_ATOMICS         BIT32(1) /* NAWUN, NAWUPF, NACWU, not the controller's */
#define NVME_NSFEAT_PREFERRED       BIT32(4) /* NPWG, NPWA, NPDG, NPDA, NOWS */
#define NVME_NSATTR_WRITE_PROTECTED BIT32(0)

/* Head of a namespace identification descriptor, figure 249; the identifier follows. */
struct nvme_ns_descriptor {
    uint8_t nidt;
    uint8_t nidl_bytes;
    uint8_t reserved[2];
};
ASSERT_SIZE(struct nvme_ns_descriptor, 4);

enum nvme_nidt {
    NVME_NIDT_EUI64 = 1, /* 8 bytes */
    NVME_NIDT_NGUID = 2, /* 16 bytes */
    NVME_NIDT_UUID = 3,  /* 16 bytes */
};

#endif
