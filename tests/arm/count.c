/* A plugin for QEMU's user emulation: how many instructions of the guest ran until each of its marks.

     cc -O2 -shared -fPIC -o count.so count.c
     qemu-aarch64 -plugin ./count.so,mark=173 PROGRAM      173: number of the system call that is a mark

   At each mark a line `instructions N` goes to standard error. No Debian package has QEMU's header, so what is used of
   the documented interface (https://www.qemu.org/docs/master/devel/tcg-plugins.html), version 1, is declared here. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block; /* instructions that are translated at once, and run from the first to the last */

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*called)(plugin_id id, struct block *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *block, void (*called)(unsigned cpu, void *data), int registers,
                                          void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
                                          void (*called)(plugin_id id, unsigned cpu, int64_t number, uint64_t, uint64_t,
                                                         uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct block *block);

int qemu_plugin_version = 1;

static uint64_t instructions; /* of all threads */
static int64_t mark = -1;

static void ran(unsigned cpu, void *data) {
  (void)cpu;
  __atomic_add_fetch(&instructions, (uintptr_t)data, __ATOMIC_RELAXED);
}

static void translated(plugin_id id, struct block *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, ran, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == mark)
    fprintf(stderr, "instructions %llu\n", (unsigned long long)__atomic_load_n(&instructions, __ATOMIC_RELAXED));
}

int qemu_plugin_install(plugin_id id, const void *about, int count, char **options) {
  (void)about;
  for (int i = 0; i < count; i++)
    if (!strncmp(options[i], "mark=", 5)) mark = atoll(options[i] + 5);
  if (mark < 0) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
