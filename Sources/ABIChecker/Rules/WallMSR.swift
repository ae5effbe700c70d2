// Section H of the catalogue: the wall clock MSRs' value, and addresses where nothing is written.

extension Rule {
  static let wallReadback = Rule(
    "WALL-READBACK",
    "RDMSR and KVM_GET_MSRS return the last value written to a wall clock MSR, all 64 bits, also of an address that "
      + "cannot be served; 0x11 and 0x4b564d00 are one value.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK; arch/x86/kvm/x86.c, kvm_get_msr_common()",
    method: "Write a fresh value through each MSR; the vCPU that wrote and the host read both.",
    scenarios: [.wallMSR],
    faults: ["a write through 0x11 is not kept", "bits 0 and 1 of the value are lost"]
  ) { timeline in
    timeline.wallReadings("readings back through both MSRs, by guest and host", readers: 4) {
      $0 == nil || $0 == $1
    }
  }

  static let wallGlobal = Rule(
    "WALL-GLOBAL",
    "The value of the wall clock MSRs is the VM's: every vCPU reads what any vCPU wrote, also one that is made later.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK; arch/x86/kvm/x86.c, struct kvm_arch",
    method: "Write on one vCPU, read on the other one and on a third that is made after the write.",
    scenarios: [.wallMSR],
    faults: ["the value is kept per vCPU: another one reads 0 or its own"]
  ) { timeline in
    timeline.wallReadings(
      "readings on other vCPUs, a later one too, through both MSRs, by guest and host", readers: 8
    ) {
      $0 != nil && $0 != $1
    }
  }

  static let wallZeroNop = Rule(
    "WALL-ZERO-NOP",
    "A write of 0 to a wall clock MSR writes nothing: neither at address 0 nor at the record before.",
    source: "arch/x86/kvm/x86.c, kvm_write_wall_clock()",
    method:
      "Fill the first 256 bytes of guest memory with 0xa5, write 0 through both MSRs, on two vCPUs; the bytes there and "
      + "around the record before stay.",
    scenarios: [.wallMSR],
    faults: ["address 0 is taken for an address", "the record before is written again"]
  ) { timeline in
    timeline.staysUntouched(
      "looks around a write of 0, half of them at address 0", atAddressZero: true
    ) {
      $0 == 0
    }
  }

  static let wallUnbackedNoFault = Rule(
    "WALL-UNBACKED-NOFAULT",
    "A write of an address outside of guest RAM raises no fault and writes nothing; the guest goes on.",
    source: "arch/x86/kvm/x86.c, kvm_write_wall_clock() ignores what kvm_write_guest() returns",
    method:
      "Write addresses from 2^45 to the last 4 bytes below 2^64; the record before and the first 256 bytes stay.",
    scenarios: [.wallMSR],
    faults: ["#GP for an address without memory", "only the low 32 bits of the address are used"]
  ) { timeline in
    timeline.staysUntouched(
      "looks around a write of an address without memory", atAddressZero: false
    ) {
      $0 >= beyondMemory
    }
  }

  /// No scenario's machine has memory from here on.
  private static let beyondMemory: UInt64 = 1 << 40
}

extension Timeline {
  /// Readings of a wall clock MSR against the last value written on the same machine; `concerns` gets the vCPU that
  /// wrote, nil for the host, and the one that reads. Readers are guest and host, each through both MSRs, on vCPUs that
  /// were there at the write and on later ones.
  fileprivate func wallReadings(
    _ what: String, readers wanted: Int, _ concerns: (Int?, Int) -> Bool
  ) -> Outcome {
    var findings = Findings()
    var written: (value: Hex, by: Int?, event: Event)?
    var readers: Set<String> = []
    var late: Set<Int> = []
    func compare(_ vcpu: Int, _ msr: Hex, _ value: Hex, _ reader: String, _ event: Event) {
      guard MSR.isWallClock(msr), let written, concerns(written.by, vcpu) else { return }
      readers.insert("\(reader) \(msr) \(late.contains(vcpu))")
      let writer = written.by.map { "vcpu\($0)" } ?? "the host"
      findings.expect(
        value == written.value, at: [written.event, event],
        "\(written.value), the last value written, by \(writer)",
        seen: "\(value) read on vcpu\(vcpu) by the \(reader) through \(msr)")
    }
    for event in history.events {
      switch (event.action, event.actor) {
      case (.vmCreated, _): written = nil
      case (.vcpuCreated(let vcpu), _): late.insert(vcpu)
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isWallClock(msr):
        (written, late) = ((value, vcpu, event), [])
      case (.hostWroteMSR(_, let msr, let value), _) where MSR.isWallClock(msr):
        (written, late) = ((value, nil, event), [])
      case (.readMSR(let msr, let value, nil), .vcpu(let vcpu)):
        compare(vcpu, msr, value, "guest", event)
      case (.readMSR(let msr, _, let fault?), .vcpu) where MSR.isWallClock(msr):
        findings.expect(
          false, at: [event], "no fault from a read of \(msr)",
          seen: "exception vector \(fault.vector)")
      case (.hostReadMSR(let vcpu, let msr, let value), _):
        compare(vcpu, msr, value, "host", event)
      default: continue
      }
    }
    guard readers.count == wanted || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, what, in: self)
    }
    return findings.outcome(atLeast: 8, what, in: self)
  }

  /// A write of the MSR with a value that `concerns` raises no fault and changes none of the memory that the host looked
  /// at before and after it.
  fileprivate func staysUntouched(
    _ what: String, atAddressZero: Bool, _ concerns: (UInt64) -> Bool
  ) -> Outcome {
    var findings = Findings()
    var looks: [UInt64: (event: Event, bytes: [UInt8])] = [:]
    var write: Event?
    var seen: Set<UInt64> = []
    for event in history.events {
      switch event.action {
      case .vmCreated, .filled, .poked: (looks, write) = ([:], nil)
      case .wroteMSR(let msr, let value, let fault) where MSR.isWallClock(msr):
        let isConcerned = concerns(value.value)
        write = isConcerned ? event : nil
        if !isConcerned { looks = [:] }
        if isConcerned, let fault {
          findings.expect(
            false, at: [event], "no fault from a write of \(value) to \(msr)",
            seen: "exception vector \(fault.vector)")
        }
      case .hostWroteMSR(_, let msr, _) where MSR.isWallClock(msr): (looks, write) = ([:], nil)
      case .memory(let address, let hex):
        if let write, let (before, bytes) = looks[address.value], bytes.count == hex.bytes.count,
          before.number < write.number
        {
          seen.insert(address.value)
          findings.expect(
            bytes == hex.bytes, at: [before, write, event],
            "the \(bytes.count) bytes at \(address) as they were before",
            seen: describeChange(bytes, hex.bytes, address.value))
        }
        looks[address.value] = (event, hex.bytes)
      default: continue
      }
    }
    guard seen.count >= 2, seen.contains(0) || !atAddressZero || !findings.violations.isEmpty
    else { return findings.outcome(atLeast: .max, what, in: self) }
    return findings.outcome(atLeast: 8, what, in: self)
  }
}

private func describeChange(_ old: [UInt8], _ new: [UInt8], _ start: UInt64) -> String {
  guard let at = zip(old, new).enumerated().first(where: { $1.0 != $1.1 })?.offset else {
    return "no change"
  }
  return "byte at \(Hex(start &+ UInt64(at))) went from \(Hex(UInt64(old[at]))) to "
    + "\(Hex(UInt64(new[at])))"
}
