import CKVM
import Testing

@testable import KVM

/// A run area without a kernel behind it.
private func area(_ fill: (inout kvm_run) -> Void) throws -> RunArea {
  let mapping = try Mapping(anonymous: 0x3000)
  let run = mapping.base.assumingMemoryBound(to: kvm_run.self)
  fill(&run.pointee)
  return RunArea(mapping)
}

private func exit(_ reason: Int32, _ fill: (inout kvm_run) -> Void = { _ in }) throws -> VCPUExit {
  try area { run in
    run.exit_reason = UInt32(reason)
    fill(&run)
  }.exit()
}

@Suite struct VCPUExitDecodingTests {
  @Test func `exits without fields`() throws {
    #expect(try exit(KVM_EXIT_HLT) == .halt)
    #expect(try exit(KVM_EXIT_SHUTDOWN) == .shutdown)
    #expect(try exit(KVM_EXIT_INTR) == .interrupted)
    #expect(try exit(KVM_EXIT_IRQ_WINDOW_OPEN) == .interruptWindowOpen)
    #expect(try exit(KVM_EXIT_DEBUG) == .debug)
  }

  @Test func `an exit without a case keeps its number`() throws {
    #expect(try exit(KVM_EXIT_UNKNOWN) == .unsupported(0))
    #expect(try exit(KVM_EXIT_HYPERCALL) == .unsupported(3))
    #expect(try area { $0.exit_reason = .max }.exit() == .unsupported(.max))
  }

  @Test func `exits that tell what went wrong`() throws {
    let failed = try exit(KVM_EXIT_FAIL_ENTRY) {
      $0.fail_entry.hardware_entry_failure_reason = 0x8000_0021
      $0.fail_entry.cpu = 3
    }
    #expect(failed == .failEntry(reason: 0x8000_0021, cpu: 3))
    let error = try exit(KVM_EXIT_INTERNAL_ERROR) { $0.internal.suberror = 1 }
    #expect(error == .internalError(suberror: 1))
    let event = try exit(KVM_EXIT_SYSTEM_EVENT) { $0.system_event.type = 3 }
    #expect(event == .systemEvent(type: 3))
  }

  @Test func `MSR exits`() throws {
    let read = try exit(KVM_EXIT_X86_RDMSR) {
      $0.msr.index = 0x4b56_4d01
      $0.msr.reason = 4
    }
    #expect(read == .readMSR(index: 0x4b56_4d01, reason: 4))
    let write = try exit(KVM_EXIT_X86_WRMSR) {
      $0.msr.index = 0x12
      $0.msr.data = 0x1_0000_0001
      $0.msr.reason = 1
    }
    #expect(write == .writeMSR(index: 0x12, value: 0x1_0000_0001, reason: 1))
  }

  @Test func `an MMIO write has only as many bytes of value as its length`() throws {
    let write = try exit(KVM_EXIT_MMIO) {
      $0.mmio.phys_addr = 0xFEE0_0000
      $0.mmio.data = (1, 2, 3, 4, 5, 6, 7, 8)
      $0.mmio.len = 4
      $0.mmio.is_write = 1
    }
    #expect(write == .mmioWrite(address: 0xFEE0_0000, length: 4, value: 0x0403_0201))
    let read = try exit(KVM_EXIT_MMIO) {
      $0.mmio.phys_addr = 0xF000
      $0.mmio.len = 8
    }
    #expect(read == .mmioRead(address: 0xF000, length: 8))
  }
}

@Suite struct PortDataTests {
  /// A pending port exit of 2 items of 2 bytes, whose data is at 0x1000.
  private func pending(_ direction: Int32, offset: UInt64 = 0x1000) throws -> RunArea {
    let mapping = try Mapping(anonymous: 0x3000)
    let run = mapping.base.assumingMemoryBound(to: kvm_run.self)
    run.pointee.exit_reason = UInt32(KVM_EXIT_IO)
    run.pointee.io.direction = UInt8(direction)
    run.pointee.io.size = 2
    run.pointee.io.port = 0x1F0
    run.pointee.io.count = 2
    run.pointee.io.data_offset = offset
    mapping.base.storeBytes(of: 0x4433_2211, toByteOffset: 0x1000, as: UInt32.self)
    return RunArea(mapping)
  }

  @Test func `OUT has the first item as its value and all items as data`() throws {
    let area = try pending(KVM_EXIT_IO_OUT)
    #expect(area.exit() == .out(port: 0x1F0, size: 2, count: 2, value: 0x2211))
    #expect(area.copyPortData() == [0x11, 0x22, 0x33, 0x44])
  }

  @Test func `IN is answered in every item`() throws {
    let area = try pending(KVM_EXIT_IO_IN)
    #expect(area.exit() == .in(port: 0x1F0, size: 2, count: 2))
    area.completeIn(value: 0xDEAD_BEEF)
    #expect(area.copyPortData() == [0xEF, 0xBE, 0xEF, 0xBE])
  }

  @Test(arguments: [UInt64(0x2FFD), .max])
  func `data outside of the shared memory stops the program`(offset: UInt64) async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) { [offset] in
      stopWithoutBacktrace()
      _ = try PortDataTests().pending(KVM_EXIT_IO_OUT, offset: offset).exit()
    }
    try #expect(message(of: result).contains("outside of kvm_run"))
  }

  @Test func `an answer to an exit that did not happen stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      try PortDataTests().pending(KVM_EXIT_IO_OUT).completeIn(value: 0)
    }
    try #expect(message(of: result).contains("completeIn answers an `in` exit"))
  }

  @Test func `an MSR answer to a port exit stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      try PortDataTests().pending(KVM_EXIT_IO_OUT).completeReadMSR(value: 0)
    }
    try #expect(message(of: result).contains("completeReadMSR answers a `readMSR` exit"))
  }
}

@Suite struct VCPUExitTextTests {
  @Test(arguments: [
    (
      VCPUExit.out(port: 0x3F8, size: 1, count: 1, value: 0x41),
      "OUT to port 0x3f8, size 1, count 1, value 0x41"
    ),
    (.in(port: 0x60, size: 2, count: 3), "IN from port 0x60, size 2, count 3"),
    (.mmioRead(address: 0xF000, length: 4), "MMIO read at 0xf000, length 4"),
    (
      .mmioWrite(address: 0xF000, length: 4, value: 0x10),
      "MMIO write at 0xf000, length 4, value 0x10"
    ),
    (.halt, "HLT"),
    (.shutdown, "shutdown (triple fault)"),
    (.interrupted, "interrupted"),
    (.interruptWindowOpen, "interrupt window open"),
    (.debug, "debug"),
    (.readMSR(index: 0x12, reason: 4), "RDMSR of 0x12, reason 4"),
    (.writeMSR(index: 0x12, value: 0x1001, reason: 4), "WRMSR of 0x12, value 0x1001, reason 4"),
    (.failEntry(reason: 0x21, cpu: 1), "entry failed, hardware reason 0x21, host CPU 1"),
    (.internalError(suberror: 1), "KVM internal error, suberror 1"),
    (.systemEvent(type: 2), "system event, type 2"),
    (.unsupported(37), "unsupported exit, reason 37"),
  ])
  func `an exit reads as its name and numbers`(exit: VCPUExit, text: String) {
    #expect(exit.description == text)
  }
}
