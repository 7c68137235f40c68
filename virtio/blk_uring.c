/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring through liburing. Everything that may be refused or allocate happens before the ring is enabled; from then on
 * the kernel takes reads, writes and fdatasync of registered files, and the replacement of such a file, and
 * nothing else: a monitor that was taken over can't open, connect or splice through it.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/blk_ring_impl.h"
#include "vmm/base/fd.h"

/*
 * Threads that the kernel may make for what has to block, each for regular files and for others. More than that
 * does not make a disk faster, and counts against the jail's limit of processes.
 */
#define WORKERS_MAX 8

struct blk_uring {
	struct io_uring io;
	bool made;
	struct io_uring_probe *probe;
};

/* What a request may be; the first three need a registered file, the last is for PATCH /drives. */
static const uint8_t opcodes[] = {
	IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
};

/* --- Is it there? --- */

/* The value of a setting under /proc/sys/kernel, -1 when there is no such setting. */
static int kernel_setting(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c;

	return fd >= 0 && read(fd, &c, 1) == 1 ? c - '0' : -1;
}

static int refused(struct err *e, int rc)
{
	static const char way_out[] = "the engine 'Sync' works everywhere";

	switch (-rc) {
	case ENOSYS:
		return err_set(e, rc, "This host's kernel has no io_uring, which the engine 'Async' needs: %s.", way_out);
	case EPERM:
	case EACCES: {
		int off = kernel_setting("/proc/sys/kernel/io_uring_disabled");

		if (off > 0)
			return err_set(e, rc,
				       "io_uring, which the engine 'Async' needs, is switched off on this host "
				       "(sysctl kernel.io_uring_disabled is %d, it takes 0): %s.", off, way_out);
		return err_set(e, rc,
			       "This process may not use io_uring, which the engine 'Async' needs (a seccomp filter or a "
			       "security module forbids it): %s.", way_out);
	}
	case EINVAL:
		return err_set(e, rc,
			       "This host's io_uring can't be restricted, on which the engine 'Async' insists (Linux 5.10 "
			       "can): %s.", way_out);
	case ENOMEM:
		return err_set(e, rc,
			       "The kernel has no memory for an io_uring, which the engine 'Async' needs (before Linux 5.12 it "
			       "counts against RLIMIT_MEMLOCK): %s.", way_out);
	default:
		return err_sys(e, rc, "The engine 'Async' can't make its io_uring (%s)", way_out);
	}
}

static int check_opcodes(struct io_uring *io)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(io);
	int rc = probe ? 0 : -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(opcodes) && rc == 0; i++) {
		if (!io_uring_opcode_supported(probe, opcodes[i]))
			rc = -EINVAL;
	}
	io_uring_free_probe(probe);
	return rc;
}

static int restrict_ring(struct io_uring *io)
{
	struct io_uring_restriction r[ARRAY_SIZE(opcodes) + 3];
	size_t n = 0;

	memset(r, 0, sizeof(r));
	for (; n < ARRAY_SIZE(opcodes); n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = opcodes[n];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	r[n++].sqe_flags = IOSQE_FIXED_FILE;
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n++].sqe_flags = IOSQE_FIXED_FILE;
	r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	r[n++].register_op = IORING_REGISTER_FILES_UPDATE;
	return io_uring_register_restrictions(io, r, (unsigned)n);
}

int blk_ring_probe(struct err *e)
{
	struct io_uring io;
	int rc = io_uring_queue_init(1, &io, IORING_SETUP_R_DISABLED);

	if (rc < 0)
		return refused(e, rc);
	rc = check_opcodes(&io);
	if (rc == 0)
		rc = restrict_ring(&io);
	io_uring_queue_exit(&io);
	return rc < 0 ? refused(e, rc) : 0;
}

/* --- Life --- */

static void uring_destroy(void *ctx)
{
	struct blk_uring *u = ctx;

	if (u->made)
		io_uring_queue_exit(&u->io);
	free(u);
}

static int register_files(struct io_uring *io, uint32_t n)
{
	AUTO_FREE int *fds = malloc(n * sizeof(*fds));

	if (!fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		fds[i] = -1;
	return io_uring_register_files(io, fds, n);
}

int blk_uring_create(uint32_t entries, uint32_t n_files, int event_fd, void **out, struct err *e)
{
	struct blk_uring *u = calloc(1, sizeof(*u));
	unsigned workers[2] = { WORKERS_MAX, WORKERS_MAX };
	int rc;

	if (!u)
		return err_sys(e, -ENOMEM, "allocate the Async engine");
	rc = io_uring_queue_init(entries, &u->io, IORING_SETUP_R_DISABLED);
	u->made = rc == 0;
	if (rc == 0)
		rc = check_opcodes(&u->io);
	if (rc == 0)
		rc = register_files(&u->io, n_files);
	if (rc == 0)
		rc = io_uring_register_eventfd(&u->io, event_fd);
	if (rc < 0) {
		uring_destroy(u);
		return refused(e, rc);
	}
	/* Linux 5.15; a limit of its own before. */
	(void)io_uring_register_iowq_max_workers(&u->io, workers);
	*out = u;
	return 0;
}

static int uring_enable(void *ctx, struct err *e)
{
	struct blk_uring *u = ctx;
	int rc = restrict_ring(&u->io);

	if (rc == 0)
		rc = io_uring_enable_rings(&u->io);
	return rc < 0 ? refused(e, rc) : 0;
}

/* --- Operations --- */

static void uring_queue(void *ctx, const struct blk_ring_op *op)
{
	struct blk_uring *u = ctx;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->io);
	int file = (int)op->file;

	must(sqe); /* R1 */
	switch (op->kind) {
	case BLK_RING_READ:
		if (op->n_iov == 1)
			io_uring_prep_read(sqe, file, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
		else
			io_uring_prep_readv(sqe, file, op->iov, op->n_iov, op->offset);
		break;
	case BLK_RING_WRITE:
		if (op->n_iov == 1)
			io_uring_prep_write(sqe, file, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
		else
			io_uring_prep_writev(sqe, file, op->iov, op->n_iov, op->offset);
		break;
	case BLK_RING_FLUSH:
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	sqe->user_data = op->tag;
}

static int uring_submit(void *ctx)
{
	struct blk_uring *u = ctx;
	int rc;

	do {
		rc = io_uring_submit(&u->io);
	} while (rc == -EINTR);
	if (rc < 0)
		return rc;
	return io_uring_sq_ready(&u->io) > 0 ? -EAGAIN : 0;
}

static bool uring_next(void *ctx, struct blk_ring_result *out)
{
	struct blk_uring *u = ctx;
	struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(&u->io, head, cqe) {
		*out = (struct blk_ring_result){ .tag = cqe->user_data, .res = cqe->res };
		io_uring_cq_advance(&u->io, 1);
		return true;
	}
	return false;
}

static void uring_notify(void *ctx, bool on)
{
	struct blk_uring *u = ctx;

	(void)io_uring_cq_eventfd_toggle(&u->io, on);
	/* The flag before the next look at the completion queue; pairs with the kernel's: result, then flag. */
	if (on)
		__sync_synchronize();
}

static int uring_set_file(void *ctx, uint32_t file, int fd)
{
	struct blk_uring *u = ctx;
	int rc = io_uring_register_files_update(&u->io, file, &fd, 1);

	return rc < 0 ? rc : 0;
}

/* Results may be taken by another thread meanwhile, so the wait is short whatever happens. */
static void uring_wait(void *ctx, int timeout_ms)
{
	struct blk_uring *u = ctx;
	struct pollfd p = { .fd = u->io.ring_fd, .events = POLLIN };

	(void)poll(&p, 1, timeout_ms);
}

const struct blk_ring_backend blk_uring_backend = {
	.queue = uring_queue,
	.submit = uring_submit,
	.next = uring_next,
	.notify = uring_notify,
	.set_file = uring_set_file,
	.wait = uring_wait,
	.enable = uring_enable,
	.destroy = uring_destroy,
};
