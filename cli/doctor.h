/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `mayfly doctor` finds: a list of findings, each with a verdict, the reason and a remedy.
 *
 * Two groups: the host's device (doctor_host.c: is it there, may we use it, does it have the capabilities) and, if that
 * holds, its faithfulness (doctor_kvm.c: tiny guests that do one thing each that Linux needs).
 *
 * Threads: one. The guests run in child processes, so that a KVM that hangs or kills its caller is a finding.
 */
#ifndef MAYFLY_CLI_DOCTOR_H
#define MAYFLY_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cdefs.h"

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_WARN, /* works, with a disadvantage */
	DOCTOR_FAIL, /* no Linux guest can run */
	DOCTOR_SKIP, /* not asked: the processor does not offer it, or an earlier finding makes it pointless */
};

struct doctor_finding {
	const char *id;    /* stable, for scripts */
	const char *title; /* what was asked */
	enum doctor_verdict verdict;
	char reason[200];   /* what was seen */
	const char *remedy; /* DOCTOR_WARN and DOCTOR_FAIL: what to do */
};

#define DOCTOR_MAX 32

struct doctor_report {
	size_t n;
	struct doctor_finding finding[DOCTOR_MAX];
};

/* Append a finding; @remedy is static text or NULL. */
void doctor_add(struct doctor_report *report, const char *id, const char *title, enum doctor_verdict verdict,
	const char *remedy, const char *fmt, ...) PRINTF_LIKE(6, 7);

/* Does nothing in @report fail? */
bool doctor_healthy(const struct doctor_report *report);

/*
 * Look at the KVM device at @path: presence, permission, API version, capabilities. Returns true when guests can be tried on it.
 */
bool doctor_check_host(const char *path, struct doctor_report *report) MUST_USE;

/* Run every tiny guest on the KVM device at @path; takes at most @limit_ms. After doctor_check_host() returned true. */
void doctor_check_guests(const char *path, int limit_ms, struct doctor_report *report);

#endif
