/* The agent in long mode: one request at a time, in ring 0 or ring 3. See README.md. */
#include "long.h"

    LONG_IMAGE_HEADER agent_long

entry:
    leaq MAILBOX_LOOP(%rdi), %r15
next:
    movl %cs, %eax
    andl $3, %eax
    cmpl MAILBOX_RING(%rdi), %eax
    je serve
    testl %eax, %eax
    jz 1f
    /* Back to ring 0 by a fault of ring 3: not every backend can emulate INT there. */
leave_ring3:
    ud2
1:  ENTER_RING3 serve
ring0:
    movq %rbp, %rsp
serve:
    movl MAILBOX_REQUEST(%rdi), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    leaq table(%rip), %rdx
    movslq (%rdx,%rax,4), %rax
    addq %rdx, %rax
    jmp *%rax

read_msr:
    movl MAILBOX_ARGUMENT0(%rdi), %ecx
    rdmsr
    jmp result_edx_eax
write_msr:
    movl MAILBOX_ARGUMENT0(%rdi), %ecx
    movl MAILBOX_ARGUMENT1(%rdi), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%rdi), %edx
    wrmsr
    jmp done
write_msr_read_clock:
    movq MAILBOX_ARGUMENT2(%rdi), %rsi
    movl MAILBOX_ARGUMENT0(%rdi), %ecx
    movl MAILBOX_ARGUMENT1(%rdi), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%rdi), %edx
    wrmsr
    jmp read_record
read_clock:
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
read_record:
    READ_RECORD never_even
    leaq MAILBOX_TSC(%rdi), %r15
    STORE_READING 0
    leaq MAILBOX_LOOP(%rdi), %r15
    jmp done
never_even:
    leaq MAILBOX_TSC(%rdi), %r15
    STORE_READING 0
    leaq MAILBOX_LOOP(%rdi), %r15
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%rdi)
    jmp bell
read_tsc:
    rdtsc
result_edx_eax:
    movl %eax, MAILBOX_RESULT0(%rdi)
    movl %edx, (MAILBOX_RESULT0 + 4)(%rdi)
    jmp done
run_cpuid:
    movl MAILBOX_ARGUMENT0(%rdi), %eax
    movl MAILBOX_ARGUMENT1(%rdi), %ecx
    cpuid
    movl %eax, MAILBOX_RESULT0(%rdi)
    movl %ebx, (MAILBOX_RESULT0 + 4)(%rdi)
    movl %ecx, MAILBOX_RESULT1(%rdi)
    movl %edx, (MAILBOX_RESULT1 + 4)(%rdi)
    jmp done
peek:
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    movl (%rsi), %eax
    movl %eax, MAILBOX_RESULT0(%rdi)
    jmp done
poke:
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    movl MAILBOX_ARGUMENT1(%rdi), %eax
    movl %eax, (%rsi)
    jmp done
halt:
    hlt
    jmp done
invalid_opcode:
    ud2
unknown:
    movl $STATUS_UNKNOWN_REQUEST, MAILBOX_STATUS(%rdi)
    jmp bell
done:
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp next

    LONG_FAULT_HANDLER bell, leave_ring3, ring0

    .balign 4
table:
    .long done - table
    .long read_msr - table
    .long write_msr - table
    .long read_clock - table
    .long write_msr_read_clock - table
    .long read_tsc - table
    .long run_cpuid - table
    .long peek - table
    .long poke - table
    .long halt - table
    .long invalid_opcode - table
guest_agent_long_end:

    .section .note.GNU-stack, "", @progbits
