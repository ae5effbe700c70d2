internal import CKVM

/// The `kvm_run` area that the kernel and this process share for one vCPU.
///
/// Only `immediate_exit` may be touched while the vCPU runs; everything else belongs to the thread
/// that runs it, between two runs.
struct RunArea: Sendable {
  private let mapping: Mapping

  init(_ mapping: Mapping) {
    require(
      mapping.size >= MemoryLayout<kvm_run>.size, "\(mapping.size) bytes cannot hold kvm_run")
    self.mapping = mapping
  }

  private var run: UnsafeMutablePointer<kvm_run> {
    mapping.base.assumingMemoryBound(to: kvm_run.self)
  }

  func setImmediateExit(_ on: Bool) {
    ckvm_set_immediate_exit(run, on ? 1 : 0)
  }

  func setRequestInterruptWindow(_ on: Bool) {
    run.pointee.request_interrupt_window = on ? 1 : 0
  }

  var isReadyForInterrupt: Bool {
    run.pointee.ready_for_interrupt_injection != 0
  }

  /// Why the vCPU stopped, copied out of the area.
  func exit() -> VCPUExit {
    switch Int32(bitPattern: run.pointee.exit_reason) {
    case KVM_EXIT_IO: portExit()
    case KVM_EXIT_MMIO: memoryExit()
    case KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR: msrExit()
    case KVM_EXIT_HLT: .halt
    case KVM_EXIT_SHUTDOWN: .shutdown
    case KVM_EXIT_INTR: .interrupted
    case KVM_EXIT_IRQ_WINDOW_OPEN: .interruptWindowOpen
    case KVM_EXIT_DEBUG: .debug
    case KVM_EXIT_FAIL_ENTRY:
      .failEntry(
        reason: run.pointee.fail_entry.hardware_entry_failure_reason,
        cpu: run.pointee.fail_entry.cpu)
    case KVM_EXIT_INTERNAL_ERROR: .internalError(suberror: run.pointee.internal.suberror)
    case KVM_EXIT_SYSTEM_EVENT: .systemEvent(type: run.pointee.system_event.type)
    default: .unsupported(run.pointee.exit_reason)
    }
  }

  private func portExit() -> VCPUExit {
    let io = run.pointee.io
    if Int32(io.direction) == KVM_EXIT_IO_IN {
      return .in(port: io.port, size: io.size, count: io.count)
    }
    let data = portData()
    var value: UInt32 = 0
    for byte in data.prefix(Int(io.size)).reversed() { value = value << 8 | UInt32(byte) }
    return .out(port: io.port, size: io.size, count: io.count, value: value)
  }

  private func memoryExit() -> VCPUExit {
    let mmio = run.pointee.mmio
    guard mmio.is_write != 0 else {
      return .mmioRead(address: mmio.phys_addr, length: mmio.len)
    }
    var value: UInt64 = 0
    withUnsafeBytes(of: mmio.data) { bytes in
      for byte in bytes.prefix(Int(mmio.len)).reversed() { value = value << 8 | UInt64(byte) }
    }
    return .mmioWrite(address: mmio.phys_addr, length: mmio.len, value: value)
  }

  private func msrExit() -> VCPUExit {
    let msr = run.pointee.msr
    if Int32(bitPattern: run.pointee.exit_reason) == KVM_EXIT_X86_RDMSR {
      return .readMSR(index: msr.index, reason: msr.reason)
    }
    return .writeMSR(index: msr.index, value: msr.data, reason: msr.reason)
  }

  /// The bytes of all items of the pending port exit, within the mapping.
  private func portData() -> UnsafeMutableRawBufferPointer {
    let io = run.pointee.io
    let count = Int(io.size) * Int(io.count)
    require(
      io.data_offset <= UInt64(mapping.size) && count <= mapping.size - Int(io.data_offset),
      "the kernel placed \(count) bytes of port data at \(io.data_offset), outside of kvm_run")
    return UnsafeMutableRawBufferPointer(
      start: mapping.base + Int(io.data_offset), count: count)
  }

  /// Every item of the pending port exit, in order, as bytes.
  func copyPortData() -> [UInt8] {
    requirePending(KVM_EXIT_IO, "port data belongs to an `in` or `out` exit")
    return Array(portData())
  }

  func completeIn(value: UInt32) {
    requirePending(KVM_EXIT_IO, "completeIn answers an `in` exit")
    let io = run.pointee.io
    require(Int32(io.direction) == KVM_EXIT_IO_IN, "completeIn answers an `in` exit")
    let data = portData()
    for index in data.indices {
      data[index] = UInt8(truncatingIfNeeded: value >> UInt32(index % Int(io.size) * 8))
    }
  }

  func completeMMIORead(value: UInt64) {
    requirePending(KVM_EXIT_MMIO, "completeMMIORead answers an `mmioRead` exit")
    require(
      run.pointee.mmio.is_write == 0, "completeMMIORead answers an `mmioRead` exit")
    withUnsafeMutableBytes(of: &run.pointee.mmio.data) { bytes in
      bytes.storeBytes(of: value.littleEndian, as: UInt64.self)
    }
  }

  func completeReadMSR(value: UInt64?) {
    requirePending(KVM_EXIT_X86_RDMSR, "completeReadMSR answers a `readMSR` exit")
    run.pointee.msr.data = value ?? 0
    run.pointee.msr.error = value == nil ? 1 : 0
  }

  func completeWriteMSR(accepted: Bool) {
    requirePending(KVM_EXIT_X86_WRMSR, "completeWriteMSR answers a `writeMSR` exit")
    run.pointee.msr.error = accepted ? 0 : 1
  }

  private func requirePending(_ reason: Int32, _ message: String) {
    require(
      Int32(bitPattern: run.pointee.exit_reason) == reason,
      "\(message), but the vCPU's last exit has reason \(run.pointee.exit_reason)")
  }
}
