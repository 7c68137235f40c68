/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of ACPI machine language into a bounded buffer: just the terms that our DSDT needs (ACPI 6.5 chapter 20).
 *
 * Use: aml_init, then terms in order; every _begin has its aml_end. A buffer that is too small, or nesting deeper
 * than AML_MAX_DEPTH, sets @failed, after which every call does nothing: check once at the end with aml_finish.
 *
 * Trust: all arguments are our own constants and numbers. Threads: any; pure.
 */
#ifndef MAYFLY_VMM_AML_H
#define MAYFLY_VMM_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define AML_MAX_DEPTH 8

struct aml {
	uint8_t *buf; /* borrowed */
	size_t cap, len;
	size_t depth;
	size_t open[AML_MAX_DEPTH]; /* where each open term's package length will be put in */
	bool failed;
};

/* Start writing into @buf of @cap bytes, which @a borrows. */
void aml_init(struct aml *a, uint8_t *buf, size_t cap);

/* Bytes written, or -E2BIG after a failure or with a term still open. */
int64_t aml_finish(const struct aml *a) MUST_USE;

/* Raw bytes. */
void aml_bytes(struct aml *a, const void *bytes, size_t len);

/* The innermost open term ends here. */
void aml_end(struct aml *a);

/* Terms with contents. Names are one segment: exactly four characters, padded with '_'. */
void aml_scope_begin(struct aml *a, const char *name);
void aml_device_begin(struct aml *a, const char *name);
void aml_method_begin(struct aml *a, const char *name, uint8_t n_args, bool serialized);
void aml_if_equal_begin(struct aml *a, uint8_t arg, uint64_t value); /* If (ArgN == value) */

/* Data terms, for use as values. */
void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *text);
void aml_eisaid(struct aml *a, const char id[7]); /* "PNP0501" */
void aml_package_begin(struct aml *a, uint8_t n_elements);

/* Name (@name, <the data term that follows>). */
void aml_name(struct aml *a, const char *name);

/* Notify (@name, @value). @name is looked up in the enclosing scopes. */
void aml_notify(struct aml *a, const char *name, uint64_t value);

/*
 * A resource template (ACPI 6.5, 6.4): a data term of descriptors between begin and end; at most 250 bytes of them.
 */
void aml_resources_begin(struct aml *a);
void aml_resource_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_resource_io(struct aml *a, uint16_t port, uint8_t len);
void aml_resource_edge_irq(struct aml *a, uint32_t gsi); /* consumer, edge, active high, exclusive */
void aml_resources_end(struct aml *a);

#endif
