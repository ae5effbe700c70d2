import KVM
import VMBuilder

// From opening /dev/kvm to the first clock reading in a guest, through the library. Prints nanoseconds.
// Bench/first-reading.c makes the same requests.

let began = Moment.before()
let system = try KVMSystem()
let machine = try Machine(on: system, cpuid: try system.supportedCPUID(), Machine.Options(vcpus: [0]))
try machine.boot(0, .agentLong)
let record = Layout.clockPage(0) + 64
let reply = try machine.ask(0, .writeMSR(0x4b56_4d01, record | 1, thenReadClockAt: record))
precondition(reply.value.status == .done && reply.value.reading.page.version % 2 == 0)
print(Moment.after().raw - began.raw)
