import KVM
import VMBuilder

// From opening /dev/kvm to the first clock reading in a guest, through the library: nanoseconds, one line for each
// of several machines. The first one also pays for the first use of the program's code. Bench/first-reading.c makes
// the same requests.

func firstReading() throws -> UInt64 {
  let began = Moment.before()
  let system = try KVMSystem()
  let machine = try Machine(on: system, cpuid: try system.supportedCPUID())
  try machine.boot(0, .agentLong)
  let record = Layout.clockPage(0) + 64
  let reply = try machine.ask(0, .writeMSR(0x4b56_4d01, record | 1, thenReadClockAt: record))
  let ended = Moment.after()
  precondition(reply.value.status == .done && reply.value.reading.page.version % 2 == 0)
  return ended.raw - began.raw
}

for _ in 0..<8 { print(try firstReading()) }
