/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, making and closing the delta file. docs/cow-format.md has the format and the order of what is
 * written here.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "virtio/cow_impl.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

/* What cow_open() finds out about the delta on its way. */
struct opening {
	const char *path;
	bool made;     /* this call made the file's name */
	bool empty;    /* the file holds no byte of data yet */
	struct cow_header header; /* as it must be over this base */
};

/* --- The base --- */

static int base_look(struct cow *cow, uint64_t size, struct cow_header *header, struct err *e)
{
	struct stat st;

	if (fstat(cow->base_fd, &st) < 0)
		return err_sys(e, -errno, "look at the base");
	if (!cow_layout(size, &cow->layout))
		return err_set(e, -EFBIG, "the base has %" PRIu64 " bytes, a copy-on-write drive has at most %" PRIu64, size,
			       COW_SIZE_MAX);
	*header = (struct cow_header){ .size = size };
	if (S_ISREG(st.st_mode))
		header->mtime = (struct cow_mtime){ .s = st.st_mtim.tv_sec, .ns = (uint32_t)st.st_mtim.tv_nsec };
	return 0;
}

/* --- Opening --- */

static int open_file(struct cow *cow, struct opening *o, struct err *e)
{
	/* No links: a delta is one microVM's own. O_NONBLOCK: a FIFO put there must not hang us. */
	int flags = (cow->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

	cow->delta_fd = open(o->path, flags);
	if (cow->delta_fd < 0 && errno == ENOENT) {
		if (cow->read_only)
			return 0;
		cow->delta_fd = open(o->path, flags | O_CREAT | O_EXCL, 0600);
		o->made = cow->delta_fd >= 0;
	}
	if (cow->delta_fd >= 0)
		return 0;
	if (errno == ELOOP)
		return err_set(e, -ELOOP, "it is a symbolic link; name the file itself");
	return err_sys(e, -errno, "open it");
}

/* Is this a file that we can take, and is nobody else using it? */
static int claim_file(struct cow *cow, struct err *e)
{
	struct flock lock = { .l_type = cow->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	struct stat st, base;
	int flags;

	if (fstat(cow->delta_fd, &st) < 0 || fstat(cow->base_fd, &base) < 0)
		return err_sys(e, -errno, "look at it");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "it is not a regular file");
	if (st.st_dev == base.st_dev && st.st_ino == base.st_ino)
		return err_set(e, -EINVAL, "it is the base itself; a delta is a file of its own");
	flags = fcntl(cow->delta_fd, F_GETFL);
	if (flags < 0 || fcntl(cow->delta_fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return err_sys(e, -errno, "open it");
	if (fcntl(cow->delta_fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY,
			       "it is in use, by another microVM or another drive of this one; each needs a delta of its own");
	return err_sys(e, -errno, "lock it");
}

/*
 * The file's size, and whether it was begun and not finished (or given to us empty): then it is as long as
 * it should be or 0 bytes long, and a hole.
 */
static int look_at_size(struct cow *cow, struct opening *o, struct err *e)
{
	uint64_t size;
	struct stat st;

	if (fstat(cow->delta_fd, &st) < 0)
		return err_sys(e, -errno, "look at it");
	size = (uint64_t)st.st_size;
	o->empty = size == 0 || (size == cow->layout.file_size && lseek(cow->delta_fd, 0, SEEK_DATA) < 0 && errno == ENXIO);
	if (!o->empty && size < COW_MAP_AT)
		return err_set(e, -EINVAL, "%" PRIu64 " bytes are too few for a delta of a copy-on-write drive", size);
	return 0;
}

/* --- Header and session --- */

/* The kernel's identity since it booted. False, and zeros: it can't be known. */
static bool read_boot_id(uint8_t id[COW_BOOT_ID_BYTES])
{
	char text[40] = "";
	AUTO_FD int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	size_t digits = 0;

	memset(id, 0, COW_BOOT_ID_BYTES);
	for (ssize_t i = 0; i < n && digits < 2 * COW_BOOT_ID_BYTES; i++) {
		char c = text[i];
		int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (v < 0)
			continue;
		id[digits / 2] |= (uint8_t)(digits % 2 ? v : v << 4);
		digits++;
	}
	if (digits == 2 * COW_BOOT_ID_BYTES)
		return true;
	memset(id, 0, COW_BOOT_ID_BYTES);
	return false;
}

static int write_session(struct cow *cow)
{
	uint8_t id[COW_BOOT_ID_BYTES];

	(void)read_boot_id(id);
	return cow_pwrite(&blk_io_host, cow->delta_fd, id, sizeof(id), COW_SESSION_AT);
}

/* Does the live map speak of what is in this kernel's page cache? */
static int session_is_ours(struct cow *cow, bool *ours)
{
	uint8_t id[COW_BOOT_ID_BYTES], in_file[COW_BOOT_ID_BYTES];
	bool known = read_boot_id(id);
	int rc = cow_pread(&blk_io_host, cow->delta_fd, in_file, sizeof(in_file), COW_SESSION_AT);

	*ours = known && rc == 0 && memcmp(id, in_file, sizeof(id)) == 0;
	return rc;
}

static int check_header(struct cow *cow, const struct opening *o, struct err *e)
{
	uint8_t sector[COW_HEADER_BYTES];
	struct cow_header h;
	struct stat st;
	int rc = cow_pread(&blk_io_host, cow->delta_fd, sector, sizeof(sector), COW_HEADER_AT);

	if (rc < 0)
		return err_sys(e, rc, "read its header");
	rc = cow_header_decode(sector, &h, e);
	if (rc < 0)
		return rc;
	if (h.size != o->header.size || h.mtime.s != o->header.mtime.s || h.mtime.ns != o->header.mtime.ns)
		return err_set(e, -ESTALE, "it belongs to a base of %" PRIu64 " bytes modified at @%" PRId64 ".%09" PRIu32
			       ", but the base has %" PRIu64 " bytes and was modified at @%" PRId64 ".%09" PRIu32
			       "; bring that base back (copy it with cp -p; if only its time changed: touch -d @TIME), or name "
			       "a new delta", h.size, h.mtime.s, h.mtime.ns, o->header.size, o->header.mtime.s,
			       o->header.mtime.ns);
	if (fstat(cow->delta_fd, &st) < 0)
		return err_sys(e, -errno, "look at it");
	if ((uint64_t)st.st_size != cow->layout.file_size)
		return err_set(e, -EINVAL, "it has %" PRIu64 " bytes and should have %" PRIu64 ": it was %s",
			       (uint64_t)st.st_size, cow->layout.file_size,
			       (uint64_t)st.st_size < cow->layout.file_size ? "cut off" : "made longer");
	return 0;
}

/* --- Maps --- */

/* The next stretch [*@from, *@to) with data at or behind *@from, before @end. False: there is none. */
static bool next_data(int fd, uint64_t end, uint64_t *from, uint64_t *to)
{
	off_t data = lseek(fd, (off_t)*from, SEEK_DATA);
	off_t hole;

	if (data < 0 && errno != ENXIO) { /* a file system that does not know */
		*to = end;
		return *from < end;
	}
	if (data < 0 || (uint64_t)data >= end)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (uint64_t)data & ~UINT64_C(7); /* whole words; @end is at one */
	*to = hole > data && (uint64_t)hole < end ? ((uint64_t)hole + 7) & ~UINT64_C(7) : end;
	return true;
}

/* Add the @len bytes of cow->page to the map at its offset @at, in words. True if that set a bit. */
static bool merge(struct cow *cow, uint64_t at, uint64_t len)
{
	uint64_t *map = &cow->map[at / sizeof(uint64_t)];
	uint64_t added = 0;

	for (uint64_t i = 0; i < len / sizeof(uint64_t); i++) {
		if (cow->page[i] == 0)
			continue; /* the map's page may not be there yet */
		added |= cow->page[i] & ~map[i];
		map[i] |= cow->page[i];
	}
	return added != 0;
}

/* Add the bits of the file's map at @map_at to cow->map. @live: they are not in the stable one. */
static int load_map(struct cow *cow, uint64_t map_at, bool live)
{
	uint64_t end = map_at + cow->layout.map_bytes;
	uint64_t from = map_at, to;

	while (next_data(cow->delta_fd, end, &from, &to)) {
		while (from < to) {
			uint64_t at = from - map_at;
			uint64_t len = COW_MAP_PAGE - at % COW_MAP_PAGE;
			int rc;

			if (len > to - from)
				len = to - from;
			rc = cow_pread(&blk_io_host, cow->delta_fd, cow->page, len, from);
			if (rc < 0)
				return rc;
			if (merge(cow, at, len) && live)
				cow_map_mark_dirty(cow, at / COW_MAP_PAGE);
			from += len;
		}
	}
	return 0;
}

static bool page_is_zero(const uint64_t *page)
{
	uint64_t any = 0;

	for (size_t i = 0; i < COW_MAP_PAGE / sizeof(*page); i++)
		any |= page[i];
	return any == 0;
}

/*
 * Begin a session: the live map becomes what the stable one is. The session's name is written last, so that
 * who is killed here leaves a live map that counts for nothing.
 */
static int reset_live_map(struct cow *cow)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	bool erased = fallocate(cow->delta_fd, punch, (off_t)cow->layout.live_at, (off_t)cow->layout.map_bytes) == 0;

	for (uint64_t at = 0; at < cow->layout.map_bytes; at += COW_MAP_PAGE) {
		const uint64_t *page = &cow->map[at / sizeof(uint64_t)];
		int rc;

		if (erased && page_is_zero(page))
			continue;
		rc = cow_pwrite(&blk_io_host, cow->delta_fd, page, COW_MAP_PAGE, cow->layout.live_at + at);
		if (rc < 0)
			return rc;
	}
	return write_session(cow);
}

/* C5. */
static int check_bits_behind_end(const struct cow *cow, struct err *e)
{
	const uint8_t *map = (const uint8_t *)cow->map;
	uint64_t n = cow->layout.n_blocks;
	uint8_t bits = 0;

	if (n % 8 != 0)
		bits = (uint8_t)(map[n / 8] >> n % 8);
	for (uint64_t i = (n + 7) / 8; i < cow->layout.map_bytes; i++)
		bits |= map[i];
	return bits ? err_set(e, -EINVAL, "its block map is damaged: it has bits behind the disk's end") : 0;
}

static int load_maps(struct cow *cow, struct err *e)
{
	bool ours;
	int rc = session_is_ours(cow, &ours);

	if (rc == 0)
		rc = load_map(cow, COW_MAP_AT, false);
	if (rc == 0 && ours)
		rc = load_map(cow, cow->layout.live_at, true);
	if (rc < 0)
		return err_sys(e, rc, "read its block map");
	rc = check_bits_behind_end(cow, e);
	if (rc < 0 || ours || cow->read_only)
		return rc;
	rc = reset_live_map(cow);
	return rc < 0 ? err_sys(e, rc, "write its block map") : 0;
}

/* --- Making one --- */

/* The directory that @path is in. A descriptor or negative errno. */
static int open_dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char dir[PATH_MAX] = ".";
	int fd;

	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	if (slash) {
		memcpy(dir, path, len);
		dir[len] = '\0';
		if (len == 0)
			dir[len++] = '/', dir[len] = '\0';
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * Fill the empty delta. Nothing is synced here, the first flush does that (cow_map_persist()): a clone
 * costs no wait for a disk. The header is the first data: killed before it, the file is still empty.
 */
static int make_delta(struct cow *cow, const struct opening *o, struct err *e)
{
	uint8_t sector[COW_HEADER_BYTES];
	int rc = open_dir_of(o->path);
	struct rlimit limit;

	if (rc < 0)
		return err_sys(e, rc, "open its directory, to make its name stable");
	cow->dir_fd = rc;
	/* Asked, because the kernel's answer is a signal that ends the process. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < cow->layout.file_size)
		return err_set(e, -EFBIG,
			       "it has to be %" PRIu64 " bytes long (sparse), and the limit of this process (RLIMIT_FSIZE; the "
			       "jailer's --resource-limit fsize) is %" PRIu64, cow->layout.file_size, (uint64_t)limit.rlim_cur);
	if (ftruncate(cow->delta_fd, (off_t)cow->layout.file_size) < 0)
		return err_sys(e, -errno, "make it %" PRIu64 " bytes long (sparse)", cow->layout.file_size);
	cow_header_encode(&o->header, sector);
	rc = cow_pwrite(&blk_io_host, cow->delta_fd, sector, sizeof(sector), COW_HEADER_AT);
	if (rc == 0)
		rc = write_session(cow);
	return rc < 0 ? err_sys(e, rc, "write its header") : 0;
}

/* Leave nothing behind of a delta that could not be made. */
static void unmake_delta(struct cow *cow, const struct opening *o)
{
	if (o->made)
		(void)unlink(o->path);
	else if (o->empty && ftruncate(cow->delta_fd, 0) < 0)
		log_warn("delta '%s': can't be emptied again", o->path);
}

/* --- Life --- */

static bool on_tmpfs(int fd)
{
	struct statfs fs;

	return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* The map and its dirty bits, in one mapping. */
static uint64_t mapping_bytes(const struct cow *cow)
{
	return cow->layout.map_bytes + (cow->n_pages + 63) / 64 * sizeof(uint64_t);
}

static int alloc_map(struct cow *cow)
{
	void *p;

	cow->n_pages = cow->layout.map_bytes / COW_MAP_PAGE;
	p = mmap(NULL, mapping_bytes(cow), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	cow->map = p;
	cow->dirty = cow->map + cow->layout.map_bytes / sizeof(uint64_t);
	return 0;
}

static void destroy(struct cow *cow)
{
	if (cow->map)
		(void)munmap(cow->map, mapping_bytes(cow));
	fd_close(&cow->dir_fd);
	fd_close(&cow->delta_fd);
	fd_close(&cow->base_fd);
	free(cow);
}

/* Everything about the delta, whose file is open. */
static int open_delta(struct cow *cow, struct opening *o, struct err *e)
{
	int rc = claim_file(cow, e);

	if (rc < 0) {
		if (o->made && rc != -EBUSY) /* else somebody else has begun to use it */
			unmake_delta(cow, o);
		return rc;
	}
	rc = look_at_size(cow, o, e);
	if (rc < 0)
		return rc;
	if (o->empty && cow->read_only) { /* nothing was ever written */
		fd_close(&cow->delta_fd);
		return 0;
	}
	if (o->empty) {
		rc = make_delta(cow, o, e);
		if (rc < 0)
			unmake_delta(cow, o);
		return rc;
	}
	rc = check_header(cow, o, e);
	return rc < 0 ? rc : load_maps(cow, e);
}

int cow_open(int base_fd, uint64_t base_size, const char *delta_path, bool read_only, struct cow **out, struct err *e)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct opening o = { .path = delta_path };
	struct cow *cow = calloc(1, sizeof(*cow));
	int rc;

	if (!cow) {
		fd_close(&base_fd);
		return err_sys(e, -ENOMEM, "delta '%s'", delta_path);
	}
	*cow = (struct cow){ .refs = 1, .base_fd = base_fd, .delta_fd = -1, .dir_fd = -1, .read_only = read_only };
	rc = base_look(cow, base_size, &o.header, e);
	if (rc == 0) {
		rc = alloc_map(cow);
		if (rc < 0)
			(void)err_sys(e, rc, "allocate the block map");
	}
	if (rc == 0)
		rc = open_file(cow, &o, e);
	if (rc == 0 && cow->delta_fd >= 0)
		rc = open_delta(cow, &o, e);
	if (rc < 0) {
		destroy(cow);
		return err_wrap(e, rc, "delta '%s'", delta_path);
	}
	/* Behind the end, where it changes nothing. */
	cow->punches = !read_only && fallocate(cow->delta_fd, punch, (off_t)cow->layout.file_size, COW_BLOCK) == 0;
	cow->base_in_memory = on_tmpfs(cow->base_fd);
	cow->delta_in_memory = on_tmpfs(cow->delta_fd);
	*out = cow;
	return 0;
}

struct cow *cow_ref(struct cow *cow)
{
	must(cow->refs < UINT32_MAX);
	cow->refs++;
	return cow;
}

void cow_unref(struct cow *cow)
{
	if (!cow)
		return;
	must(cow->refs > 0);
	if (--cow->refs > 0)
		return;
	if (cow->n_dirty > 0 && !cow->read_only) {
		int rc = cow_map_persist(&blk_io_host, cow, true);

		if (rc < 0) {
			char text[96];

			log_error("copy-on-write delta: its block map can't be made stable, what was not flushed is lost "
				  "when the host goes down: %s", err_os_text(-rc, text, sizeof(text)));
		}
	}
	destroy(cow);
}

uint64_t cow_size(const struct cow *cow)
{
	return cow->layout.size;
}

int cow_delta_fd(const struct cow *cow)
{
	return cow->delta_fd;
}

int cow_base_fd(const struct cow *cow)
{
	return cow->base_fd;
}

bool cow_can_discard(const struct cow *cow)
{
	return cow->punches;
}
