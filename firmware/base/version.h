/*
 * What this firmware calls itself: the log, Identify Controller (FR), the head of its image.
 */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

/* At most 8 characters, which is what FR takes. */
#define SNIC_VERSION "0.1"

/* Raised when an older firmware must not come back: one that confirms itself keeps out all that
 * are lower. */
#define SNIC_SECURITY_VERSION 1

#endif
