/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_ring.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/control_impl.h"

#define DRIVE_FAULT "Drive config error: Unable to create the virtio block device: "
#define PATCH_DRIVE_FAULT "Drive config error: Unable to patch the block device: "

/* Place of the drive @id, or config.n_drives. */
static size_t find_drive(const struct control *c, const char *id)
{
	size_t i;

	for (i = 0; i < c->config.n_drives; i++) {
		if (strcmp(c->config.drive[i].drive_id, id) == 0)
			break;
	}
	return i;
}

/* It goes onto the kernel's command line: nothing that could begin another word there. */
static bool partuuid_valid(const char *text)
{
	return *text && !text[strspn(text, "0123456789abcdefABCDEF-")];
}

static bool drive_acceptable(const struct control *c, const struct config_drive *d, size_t place, struct reply *reply)
{
	struct err e = {0};

	if (!d->path_on_host || d->socket) {
		control_fault(reply, DRIVE_FAULT "Invalid block config. (%s)",
			      d->socket ? "socket is for vhost-user disks, which Mayfly does not have: give path_on_host instead"
					: "path_on_host is missing");
		return false;
	}
	if (d->io_engine == IO_ENGINE_ASYNC && blk_ring_probe(&e)) {
		control_fault(reply, DRIVE_FAULT "io_engine 'Async': %s", e.msg);
		return false;
	}
	if (d->partuuid && !partuuid_valid(d->partuuid)) {
		control_fault(reply, DRIVE_FAULT "partuuid '%.64s' is not hexadecimal digits and '-', as blkid prints it.",
			      d->partuuid);
		return false;
	}
	for (size_t i = 0; i < c->config.n_drives; i++) {
		if (d->is_root_device && i != place && c->config.drive[i].is_root_device) {
			control_fault(reply, "Drive config error: A root block device already exists! (drive_id '%.64s')",
				      c->config.drive[i].drive_id);
			return false;
		}
	}
	if (place == CONFIG_MAX_DRIVES) {
		control_fault(reply, DRIVE_FAULT "drive '%s': a microVM can have at most %d drives.", d->drive_id,
			      CONFIG_MAX_DRIVES);
		return false;
	}
	return true;
}

/* Keep the root drive first; the others keep their order of first insertion. */
static void move_root_first(struct control *c, size_t place)
{
	struct config_drive drive = c->config.drive[place];
	struct blk_backing backing = c->backing[place];

	if (!drive.is_root_device)
		return;
	memmove(&c->config.drive[1], &c->config.drive[0], place * sizeof(drive));
	memmove(&c->backing[1], &c->backing[0], place * sizeof(backing));
	c->config.drive[0] = drive;
	c->backing[0] = backing;
}

/* What can be done about a path_on_host that was refused with @rc. */
static const char *backing_hint(int rc, bool read_only)
{
	switch (rc) {
	case -EISDIR:
	case -EINVAL:
		return "path_on_host must be a regular file or a block device";
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return read_only ? "path_on_host must be readable for the monitor's user"
				 : "the drive is opened read-write: make path_on_host writable for the monitor's user or set "
				   "is_read_only to true";
	default:
		return "path_on_host must be a file or block device that the monitor can open";
	}
}

/* Open the backing that @d names for a drive of mode @read_only. False: refused, the fault begins with @prefix. */
static bool open_backing(const struct config_drive *d, bool read_only, const char *prefix, struct blk_backing *out,
			 struct reply *reply)
{
	struct err e = {0};
	int rc;

	if (d->delta_path) {
		rc = blk_backing_open_cow(d->path_on_host, d->delta_path, read_only, out, &e);
		if (rc)
			control_fault(reply,
				      "%sVirtio backend error: %s (path_on_host is the base, delta_path takes what is "
				      "written)",
				      prefix, e.msg);
	} else {
		rc = blk_backing_open(d->path_on_host, read_only, out, &e);
		if (rc)
			control_fault(reply, "%sVirtio backend error: %s (%s)", prefix, e.msg, backing_hint(rc, read_only));
	}
	return rc == 0;
}

static void remove_drive(struct control *c, size_t place)
{
	size_t behind = c->config.n_drives - place - 1;

	config_drive_fini(&c->config.drive[place]);
	blk_backing_close(&c->backing[place]);
	memmove(&c->config.drive[place], &c->config.drive[place + 1], behind * sizeof(c->config.drive[0]));
	memmove(&c->backing[place], &c->backing[place + 1], behind * sizeof(c->backing[0]));
	c->config.n_drives--;
}

/*
 * As open_backing(), for @d in place of the drive at @place. A delta can be open only once, so that the same one again is
 * closed before; what was there comes back when @d is refused.
 */
static bool reopen_backing(struct control *c, const struct config_drive *d, size_t place, struct blk_backing *out,
			   struct reply *reply)
{
	struct config_drive *old = &c->config.drive[place];
	struct err e = {0};

	if (!d->delta_path || !old->delta_path || strcmp(d->delta_path, old->delta_path) != 0)
		return open_backing(d, d->is_read_only, DRIVE_FAULT, out, reply);
	blk_backing_close(&c->backing[place]);
	if (open_backing(d, d->is_read_only, DRIVE_FAULT, out, reply))
		return true;
	if (blk_backing_open_cow(old->path_on_host, old->delta_path, old->is_read_only, &c->backing[place], &e)) {
		log_error("Drive '%s' is gone: %s", old->drive_id, e.msg);
		remove_drive(c, place);
	}
	return false;
}

void control_put_drive(struct control *c, struct action *action, struct reply *reply)
{
	struct config_drive *d = &action->drive;
	size_t place = find_drive(c, d->drive_id);
	bool replaces = place < c->config.n_drives;
	struct blk_backing backing;

	if (!drive_acceptable(c, d, place, reply) ||
	    !(replaces ? reopen_backing(c, d, place, &backing, reply)
		       : open_backing(d, d->is_read_only, DRIVE_FAULT, &backing, reply)))
		return;
	if (replaces) {
		config_drive_fini(&c->config.drive[place]);
		blk_backing_close(&c->backing[place]);
	} else {
		c->config.n_drives++;
	}
	c->config.drive[place] = *d;
	c->backing[place] = backing;
	*d = (struct config_drive){0};
	move_root_first(c, place);
	reply->status = 204;
}

/* What of the configuration `GET /vm/config` shows of a patched drive. */
static void remember_patch(struct config_drive *d, struct config_drive *patch)
{
	if (patch->path_on_host) {
		free(d->path_on_host);
		d->path_on_host = ptr_take(&patch->path_on_host);
	}
	if (patch->delta_path) {
		free(d->delta_path);
		d->delta_path = ptr_take(&patch->delta_path);
	}
	control_remember_limits(&d->rate_limiter, &patch->rate_limiter);
}

/* What a patch may say about the files of drive @d; a copy-on-write drive changes base and delta together. */
static bool patch_acceptable(const struct config_drive *d, const struct config_drive *patch, struct reply *reply)
{
	if (!patch->path_on_host && !patch->rate_limiter.present && !patch->delta_path) {
		control_fault(reply, PATCH_DRIVE_FAULT
			      "Running method expected different backend. Please verify the request arguments.");
		return false;
	}
	if (patch->delta_path && !d->delta_path) {
		control_fault(reply, PATCH_DRIVE_FAULT "delta_path: drive '%.64s' is not a copy-on-write drive.", d->drive_id);
		return false;
	}
	if (patch->delta_path && !patch->path_on_host) {
		control_fault(reply, PATCH_DRIVE_FAULT "delta_path goes together with path_on_host, the base.");
		return false;
	}
	if (patch->path_on_host && d->delta_path && strcmp(patch->path_on_host, d->path_on_host) != 0 &&
	    (!patch->delta_path || strcmp(patch->delta_path, d->delta_path) == 0)) {
		control_fault(reply, PATCH_DRIVE_FAULT
			      "drive '%.64s' is a copy-on-write drive, whose delta fits its base only: give another "
			      "delta_path with another path_on_host.",
			      d->drive_id);
		return false;
	}
	return true;
}

/* Does @patch name the files that the copy-on-write drive @d has already? Its size is fixed: nothing to look at again. */
static bool same_cow_files(const struct config_drive *d, const struct config_drive *patch)
{
	return d->delta_path && strcmp(patch->path_on_host, d->path_on_host) == 0 &&
	       (!patch->delta_path || strcmp(patch->delta_path, d->delta_path) == 0);
}

static bool swap_backing(struct control *c, const struct config_drive *d, const struct config_drive *patch,
			 struct reply *reply)
{
	struct blk_backing backing;
	struct err e = {0};

	if (!open_backing(patch, d->is_read_only, PATCH_DRIVE_FAULT, &backing, reply))
		return false;
	if (machine_update_drive(c->machine, d->drive_id, &backing, &e) == 0)
		return true;
	blk_backing_close(&backing);
	control_fault(reply, PATCH_DRIVE_FAULT "%s", e.msg);
	return false;
}

void control_patch_drive(struct control *c, struct action *action, struct reply *reply)
{
	struct config_drive *patch = &action->drive;
	size_t place = find_drive(c, patch->drive_id);
	struct config_drive *d = &c->config.drive[place];
	struct machine_limits limits = control_limits(&patch->rate_limiter);
	struct err e = {0};

	if (place == c->config.n_drives) {
		control_fault(reply, PATCH_DRIVE_FAULT "Device not found: no drive '%s'.", patch->drive_id);
		return;
	}
	if (!patch_acceptable(d, patch, reply))
		return;
	if (patch->path_on_host && !same_cow_files(d, patch) && !swap_backing(c, d, patch, reply))
		return;
	if (patch->rate_limiter.present && machine_update_drive_limits(c->machine, patch->drive_id, &limits, &e)) {
		control_fault(reply, PATCH_DRIVE_FAULT "%s", e.msg);
		return;
	}
	remember_patch(d, patch);
	reply->status = 204;
}
