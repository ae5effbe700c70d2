internal import PVClock

extension MSR {
  /// All four.
  public static let clock = [wallClockOld, systemTimeOld, wallClock, systemTime]
  static let systemTimes = [Hex(systemTimeOld), Hex(systemTime)]
  static let wallClocks = [Hex(wallClockOld), Hex(wallClock)]

  /// What a guest writes to a clock MSR to have its record at an address.
  public static func request(_ msr: UInt32, at address: UInt64) -> UInt64 {
    isSystemTime(Hex(msr)) ? address | 1 : address
  }

  static func isClock(_ msr: Hex) -> Bool { clock.contains { msr == Hex($0) } }

  /// The bit of EAX in CPUID leaf 0x40000001 that offers a clock MSR.
  ///
  /// Source: Documentation/virt/kvm/x86/cpuid.rst.
  static func featureBit(_ msr: Hex) -> UInt64 {
    msr == Hex(wallClockOld) || msr == Hex(systemTimeOld) ? 0 : 3
  }
}

/// A guest's RDMSR or WRMSR of a clock MSR, on a vCPU whose CPUID is known.
struct ClockMSRAccess {
  let step: Step
  let vcpu: Int
  let msr: Hex
  let isWrite: Bool
  let value: Hex
  let fault: Fault?
  /// The 32 bytes from where a write asked for a record, as the host read them after it and before anything else was
  /// written there; nil if it did not read them, or if they were not filled before.
  var memory: (event: Event, bytes: [UInt8])?

  init?(_ step: Step) {
    guard let vcpu = step.vcpu, step.event.actor != .host, step.after.cpuid != .unknown else {
      return nil
    }
    switch step.event.action {
    case .wroteMSR(let msr, let value, let fault) where MSR.isClock(msr):
      (self.msr, self.value, self.fault, isWrite) = (msr, value, fault, true)
    case .readMSR(let msr, let value, let fault) where MSR.isClock(msr):
      (self.msr, self.value, self.fault, isWrite) = (msr, value, fault, false)
    default: return nil
    }
    (self.step, self.vcpu) = (step, vcpu)
  }

  var event: Event { step.event }
  var enforcement: VCPUState.Enforcement? { step.after.enforcement }
  var isFiltered: Bool { step.machine.deniedMSRs.contains(msr) }

  /// Whether the vCPU's CPUID offers the MSR.
  var isOffered: Bool { step.after.offers(msr) }

  /// What the last write that went through left in this MSR.
  var last: Hex { step.lastWrite(of: msr) }

  var name: String { "\(isWrite ? "WRMSR" : "RDMSR") of \(msr)" }

  var offer: String { step.after.offer }

  /// Where a write asks for a record.
  var record: UInt64 { value.value & ~1 }
}

extension VCPUState {
  /// EAX of CPUID leaf 0x40000001; nil where the CPUID has none of KVM's leaves.
  private var features: UInt64? {
    if case .features(let eax) = cpuid { eax } else { nil }
  }

  /// Whether its CPUID offers the MSR.
  func offers(_ msr: Hex) -> Bool { (features ?? 0) >> MSR.featureBit(msr) & 1 == 1 }

  var offer: String { features.map { "EAX \(Hex($0))" } ?? "no KVM leaf" }
}

extension Step {
  /// The value of a clock MSR after this step, by either of its numbers.
  func lastWrite(of msr: Hex) -> Hex {
    MSR.isSystemTime(msr)
      ? Hex(after.systemTime?.value ?? 0) : machine.wallClock?.value ?? 0
  }

  /// Whether memory from `record` on is written by other means than by the access that asked for a record there.
  fileprivate func mayWrite(_ record: UInt64) -> Bool {
    switch event.action {
    case .filled(let address, let count, _):
      address.value &- record < 32 || record &- address.value < UInt64(max(0, count))
    case .wroteMSR(let msr, let value, nil) where MSR.isClock(msr),
      .hostWroteMSR(_, let msr, let value) where MSR.isClock(msr):
      MachineFold.overlap(value.value & ~1, record)
    default: false
    }
  }
}

extension Timeline {
  /// The accesses of vCPUs whose CPUID is known.
  var clockMSRAccesses: [ClockMSRAccess] {
    machines.flatMap { machine in
      machine.steps.indices.compactMap { at in
        var access = ClockMSRAccess(machine.steps[at])
        if let found = access, found.isWrite, wasFilled(Hex(found.record), before: found.event) {
          access?.memory = machine.memory(at: found.record, after: at)
        }
        return access
      }
    }
  }
}

extension MachineRun {
  /// The 32 bytes from `record` on as the host read them first after a step.
  fileprivate func memory(at record: UInt64, after step: Int) -> (event: Event, bytes: [UInt8])? {
    for step in steps[(step + 1)...] {
      if step.mayWrite(record) { return nil }
      guard case .memory(let address, let hex) = step.event.action else { continue }
      let offset = Int128(record) - Int128(address.value)
      guard offset >= 0, offset + 32 <= hex.bytes.count else { continue }
      return (step.event, Array(hex.bytes[Int(offset)..<Int(offset) + ClockPage.size]))
    }
    return nil
  }
}
