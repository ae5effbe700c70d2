internal import ABIChecker
internal import Glibc
internal import KVM
internal import VMBuilder

// vCPUs that may or may not use the clock's MSRs.

extension Stage {
  /// Adds a vCPU with these features in its CPUID, or without KVM's leaves at all.
  func addVCPU(_ vcpu: Int, features: UInt32?, _ enforcement: Machine.Enforcement) throws {
    let cpuid = Self.cpuid(host.cpuid, features: features)
    try note(
      { .vcpuCreated(vcpu: vcpu) },
      of: { try machine.addVCPU(vcpu, cpuid: cpuid, enforcement: enforcement) })
    if enforcement == .beforeCPUID { note(.featuresEnforced(vcpu: vcpu)) }
    note(
      features.map { .featuresSet(vcpu: vcpu, features: Hex($0)) } ?? .cpuidWithoutKVM(vcpu: vcpu))
    if enforcement == .afterCPUID { note(.featuresEnforced(vcpu: vcpu)) }
    try boot(vcpu, .agentLong)
  }

  private static func cpuid(_ all: [CPUIDEntry], features: UInt32?) -> [CPUIDEntry] {
    var cpuid = all.filter { $0.function != 0x4000_0000 && $0.function != 0x4000_0001 }
    guard let features else { return cpuid }
    cpuid += all.filter { $0.function == 0x4000_0000 }
    var leaf =
      all.first { $0.function == 0x4000_0001 } ?? CPUIDEntry(function: 0x4000_0001)
    leaf.eax = features
    cpuid.append(leaf)
    return cpuid
  }

  /// Where `tryClockMSRs` has the guest ask for a record.
  private func place(of vcpu: Int, _ index: Int) -> UInt64 {
    Layout.clockPage(vcpu) + UInt64(index) * 0x200 + 0x100
  }

  /// The guest writes every clock MSR and reads them all after each write; the host looks at what the write left in
  /// memory.
  func tryClockMSRs(_ vcpu: Int) throws {
    fillClockPage(vcpu)
    for (index, msr) in MSR.clock.enumerated() {
      let address = place(of: vcpu, index)
      try writeMSR(vcpu, msr, MSR.request(msr, at: address))
      for other in MSR.clock { try readMSR(vcpu, other) }
      lookAtMemory(address - 64, count: 160)
    }
  }

  /// Writes an MSR as the host; a refusal is written down too.
  @discardableResult
  func tryHostWriteMSR(_ vcpu: Int, _ msr: UInt32, _ value: UInt64) throws -> Bool {
    let write = try machine.setMSR(msr, value, of: vcpu)
    record(
      .host, write.began, write.ended,
      write.value
        ? .hostWroteMSR(vcpu: vcpu, msr: Hex(msr), value: Hex(value))
        : .hostMSRRefused(vcpu: vcpu, msr: Hex(msr), value: Hex(value)))
    return write.value
  }

  /// The host reads every clock MSR, and writes it.
  func tryHostsClockMSRs(_ vcpu: Int) throws {
    for (index, msr) in MSR.clock.enumerated() {
      do {
        _ = try hostReadMSR(vcpu, msr)
      } catch MachineError.kvm(let error) where error.errno == EINVAL {
        note(.hostMSRReadRefused(vcpu: vcpu, msr: Hex(msr)))
      }
      let isTaken = try tryHostWriteMSR(vcpu, msr, MSR.request(msr, at: place(of: vcpu, index)))
      if !isTaken { try tryHostWriteMSR(vcpu, msr, 0) }
    }
  }

  /// Denies these MSRs to the guest, one range each; nil of an error, and why otherwise.
  func deny(_ msrs: [UInt32]) -> KVMError? {
    do throws(KVMError) {
      try note(
        { _ in .msrsDenied(msrs: msrs.map { Hex($0) }) },
        of: { () throws(KVMError) in
          try machine.vm.setMSRFilter(
            MSRFilter(ranges: msrs.map { MSRFilter.Range(denying: $0...$0) }))
        })
      return nil
    } catch {
      return error
    }
  }
}
