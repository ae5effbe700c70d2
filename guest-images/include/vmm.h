/*
 * The contract between the guest for any VMM (vmm.S) and whoever starts it: where it is loaded, what it is asked over
 * COM1, and in which order it answers. Nothing but numbers; guest-images/README.md tells the story.
 */
#ifndef GUEST_VMM_H
#define GUEST_VMM_H

/* The image stands here, and is entered at its first byte; from real mode it copies itself here. */
#define VMM_BASE 0x100000
/* Memory that the guest uses ends here. */
#define VMM_MEMORY_END 0x400000
#define VMM_COM1 0x3f8

/* vCPUs are numbered by APIC id; those with a higher one are not started. */
#define VMM_VCPUS 16

/* Where a real-mode vCPU starts: 4 KiB page number of the start-up interrupt. */
#define VMM_TRAMPOLINE 0x8000

/* Page tables, what all vCPUs share, the reply. */
#define VMM_PAGE_TABLES 0x110000
#define VMM_SHARED 0x116000
#define VMM_REPLY 0x120000

/* A vCPU's block: two banks of what it saw, its system page, its clock record, and a record of the wall clock. */
#define VMM_BLOCKS 0x200000
#define VMM_BLOCK_SHIFT 17
#define VMM_BANK 0x8000
#define VMM_SYSTEM 0x10000
#define VMM_RECORD 0x11000
#define VMM_WALL 0x12000

/* In a bank, behind the loop's counts. */
#define VMM_GAP 0x280         /* u64, most TSC cycles from one reading to the next */
#define VMM_TSC_BACK 0x288    /* u64, readings with a lower TSC than the one before */
#define VMM_NEVER_EVEN 0x290  /* u64, times the version stayed odd */
#define VMM_FAULT 0x298       /* u64, vector + 1 of the WRMSR that registered the record, 0 for none */
#define VMM_FOUND 0x2a0       /* u64, MSR_KVM_SYSTEM_TIME_NEW when the vCPU started, before that */

/* Words of a `v` line, from MAILBOX_LOOP on; those of an `s` line; how many of those at most. */
#define VMM_WORDS 53
#define VMM_STRETCH_WORDS 7
#define VMM_STRETCHES 32

#endif
