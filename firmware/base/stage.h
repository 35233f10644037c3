/*
 * Stage marks: where the instructions of an I/O go. In ordinary builds they are nothing; the
 * benchmark's second build (-DSTAGE_MARKS) counts what runs between two marks for the stage that
 * the first one names.
 */
#ifndef BASE_STAGE_H
#define BASE_STAGE_H

#define STAGE_LIST(X)                                         \
    X(POLL, "look at doorbells, arbitration")                 \
    X(FETCH, "copy the SQE, set the command up")              \
    X(DECODE, "opcode, namespace, LBA and field checks")      \
    X(MAP, "PRP or SGL to bus addresses")                     \
    X(BACKEND, "the block device, and accounting of its end") \
    X(COMPLETE, "CQE and release of the command")             \
    X(IRQ, "interrupts and coalescing, once per batch")       \
    X(ICRC, "checksum of RoCE packets, both ways")            \
    X(PLACE, "the copy from a packet to its place")           \
    X(OTHER, "scheduler, host model")

enum stage {
#define STAGE_ENUM(name, text) STAGE_##name,
    STAGE_LIST(STAGE_ENUM)
#undef STAGE_ENUM
    STAGE_COUNT,
};

#ifdef STAGE_MARKS
/* The benchmark supplies it: ends the running stage, starts `stage`; returns the one that ran. */
enum stage stage_enter(enum stage stage);
#define STAGE_ENTER(name) ((void)stage_enter(STAGE_##name))
/* A stage inside of another, which goes on at STAGE_POP in the same block. */
#define STAGE_PUSH(name) enum stage stage_before = stage_enter(STAGE_##name)
#define STAGE_POP()      ((void)stage_enter(stage_before))
#else
#define STAGE_ENTER(name) ((void)0)
#define STAGE_PUSH(name)  ((void)0)
#define STAGE_POP()       ((void)0)
#endif

#endif
