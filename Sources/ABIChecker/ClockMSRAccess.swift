internal import PVClock

extension MSR {
  /// All four.
  public static let clock = [wallClockOld, systemTimeOld, wallClock, systemTime]

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

/// A guest's RDMSR or WRMSR of a clock MSR, and all that decides whether it may.
struct ClockMSRAccess {
  /// What confines a vCPU to its CPUID: whether that was asked for before the CPUID was set or after.
  enum Enforcement: String { case before, after }

  let event: Event
  let vcpu: Int
  let msr: Hex
  let isWrite: Bool
  let value: Hex
  let fault: Fault?
  /// What the last write that went through left in this MSR.
  let last: Hex
  /// EAX of CPUID leaf 0x40000001; nil where the CPUID has none of KVM's leaves.
  let features: UInt64?
  let enforcement: Enforcement?
  let isFiltered: Bool

  /// Whether the vCPU's CPUID offers the MSR.
  var isOffered: Bool { (features ?? 0) >> MSR.featureBit(msr) & 1 == 1 }

  var name: String { "\(isWrite ? "WRMSR" : "RDMSR") of \(msr)" }

  var offer: String { features.map { "EAX \(Hex($0))" } ?? "no leaf of KVM's" }

  /// Where a write asks for a record.
  var record: UInt64 { value.value & ~1 }
}

extension Timeline {
  /// The accesses of vCPUs whose CPUID is known.
  var clockMSRAccesses: [ClockMSRAccess] {
    var pass = AccessPass()
    for event in history.events { pass.take(event) }
    return pass.found
  }

  /// What the host saw of the 32 bytes where a write asked for a record, after that write and before the next fill;
  /// nil if it did not look there, or if they were not filled before.
  func memory(after access: ClockMSRAccess) -> (event: Event, bytes: [UInt8])? {
    guard wasFilled(Hex(access.record), before: access.event) else { return nil }
    let start = Int128(access.record)
    for event in history.events where event.number > access.event.number {
      switch event.action {
      case .memory(let address, let hex):
        let offset = start - Int128(address.value)
        guard offset >= 0, offset + 32 <= hex.bytes.count else { continue }
        return (event, Array(hex.bytes[Int(offset)..<Int(offset) + ClockPage.size]))
      case .filled, .vmCreated: return nil
      default: continue
      }
    }
    return nil
  }
}

/// The forward pass that finds the accesses.
private struct AccessPass {
  var found: [ClockMSRAccess] = []
  private var features: [Int: UInt64?] = [:]
  private var enforcement: [Int: ClockMSRAccess.Enforcement] = [:]
  private var denied: Set<Hex> = []
  private var systemTime: [Int: Hex] = [:]
  /// One for the whole machine, under either number.
  private var wallClock: Hex = 0

  mutating func take(_ event: Event) {
    switch (event.action, event.actor) {
    case (.vmCreated, _):
      let found = found
      self = AccessPass()
      self.found = found
    case (.vcpuCreated(let vcpu), _):
      (features[vcpu], enforcement[vcpu], systemTime[vcpu]) = (nil, nil, nil)
    case (.featuresSet(let vcpu, let eax), _): features[vcpu] = .some(eax.value)
    case (.cpuidWithoutKVM(let vcpu), _): features[vcpu] = .some(nil)
    case (.featuresEnforced(let vcpu), _):
      enforcement[vcpu] = features[vcpu] == nil ? .before : .after
    case (.msrsDenied(let msrs), _): denied = Set(msrs)
    case (.hostWroteMSR(let vcpu, let msr, let value), _): keep(value, msr, vcpu)
    case (.replugged(let vcpu, _), _): systemTime[vcpu] = nil
    case (.wroteMSR(let msr, let value, let fault), .vcpu(let vcpu)) where MSR.isClock(msr):
      add(event, vcpu, msr, isWrite: true, value, fault)
      if fault == nil { keep(value, msr, vcpu) }
    case (.readMSR(let msr, let value, let fault), .vcpu(let vcpu)) where MSR.isClock(msr):
      add(event, vcpu, msr, isWrite: false, value, fault)
    default: break
    }
  }

  private mutating func keep(_ value: Hex, _ msr: Hex, _ vcpu: Int) {
    if MSR.isSystemTime(msr) {
      systemTime[vcpu] = value
    } else if MSR.isClock(msr) {
      wallClock = value
    }
  }

  private mutating func add(
    _ event: Event, _ vcpu: Int, _ msr: Hex, isWrite: Bool, _ value: Hex, _ fault: Fault?
  ) {
    guard let features = features[vcpu] else { return }
    found.append(
      ClockMSRAccess(
        event: event, vcpu: vcpu, msr: msr, isWrite: isWrite, value: value, fault: fault,
        last: MSR.isSystemTime(msr) ? systemTime[vcpu] ?? 0 : wallClock,
        features: features, enforcement: enforcement[vcpu], isFiltered: denied.contains(msr)))
  }
}
