internal import PVClock

/// The VM's clock under other names, as one machine's history shows it: Hyper-V's counter and reference page, Xen's records.
struct OtherClocks {
  enum Place: Hashable {
    case referencePage
    case xenRecord(vcpu: Int, in: XenRecord)
  }

  /// Where Xen's guests find a clock record of a vCPU.
  enum XenRecord: String, CaseIterable {
    case timeInfo = "vcpu_time_info"
    case info = "vcpu_info"
  }

  /// A look of the host at a place in guest memory.
  struct Look {
    let place: Place
    let bytes: [UInt8]
    let step: Step
    /// Whether the vCPU that has KVM renew the place entered since something changed.
    let isCurrent: Bool
  }

  /// A guest's reading of its kvmclock record, while a place held what two looks around it saw.
  struct Comparison {
    let look: Look
    let reading: Observation
    let after: Event

    var events: [Event] { [look.step.event, reading.event, after] }
  }

  /// Hyper-V's counter, read between two readings of a vCPU's kvmclock record.
  struct Count {
    let step: Step
    let ticks: UInt64
    let before: Observation
    let after: Observation
  }

  /// Offset of the clock record in Xen's vcpu_info, in 64-bit guests and in 32-bit ones.
  static let recordInXenInfo: UInt64 = 32

  private(set) var looks: [Look] = []
  private(set) var comparisons: [Comparison] = []
  private(set) var counts: [Count] = []
  private var referencePage: UInt64?
  private var xenRecords: [Place: UInt64] = [:]
  /// The vCPUs that entered since the clock was set, its pair was taken anew, or the flags of a place were changed. In Linux
  /// before 5.12 vCPU 0 alone renews the reference page.
  private var entered: Set<Int> = []
  private var last: [Place: Look] = [:]
  private var readings: [Place: [Observation]] = [:]
  private var lastReading: [Int: Observation] = [:]
  private var openCounts: [Int: [(step: Step, ticks: UInt64, before: Observation)]] = [:]

  init(_ machine: MachineRun) {
    for step in machine.steps { take(step) }
  }

  private mutating func take(_ step: Step) {
    var isChange = step.machine.mayHaveNewPair
    switch step.event.action {
    case .setClock, .xenUnstableSet: isChange = true
    case .xenTimeSet(let vcpu, let address):
      isChange = true
      xenRecords[.xenRecord(vcpu: vcpu, in: .timeInfo)] = address.value
    case .xenInfoSet(let vcpu, let address):
      isChange = true
      xenRecords[.xenRecord(vcpu: vcpu, in: .info)] = address.value &+ Self.recordInXenInfo
    case .wroteMSR(Hex(MSR.referenceTSC), let value, nil):
      referencePage = value.value & 1 == 1 ? value.value & ~0xfff : nil
    default: break
    }
    if isChange { entered = [] }
    if step.isEntry, let vcpu = step.vcpu { entered.insert(vcpu) }
    switch step.event.action {
    case .readMSR(Hex(MSR.referenceCount), let ticks, nil):
      guard let vcpu = step.vcpu, let before = lastReading[vcpu], entered.contains(0) else { break }
      openCounts[vcpu, default: []].append((step, ticks.value, before))
    case .memory(let address, let bytes): look(step, address.value, bytes.bytes)
    default: break
    }
    for reading in step.observations { take(reading) }
  }

  private mutating func take(_ reading: Observation) {
    guard let vcpu = reading.vcpu else { return }
    for (step, ticks, before) in openCounts.removeValue(forKey: vcpu) ?? []
    where before.epoch == reading.epoch {
      counts.append(Count(step: step, ticks: ticks, before: before, after: reading))
    }
    lastReading[vcpu] = reading
    readings[.referencePage, default: []].append(reading)
    for record in XenRecord.allCases {
      readings[.xenRecord(vcpu: vcpu, in: record), default: []].append(reading)
    }
  }

  private mutating func look(_ step: Step, _ address: UInt64, _ bytes: [UInt8]) {
    if address == referencePage, bytes.count == ReferencePage.size {
      look(Look(place: .referencePage, bytes: bytes, step: step, isCurrent: entered.contains(0)))
    }
    for (place, record) in xenRecords where record == address && bytes.count == ClockPage.size {
      guard case .xenRecord(let vcpu, _) = place else { continue }
      look(Look(place: place, bytes: bytes, step: step, isCurrent: entered.contains(vcpu)))
    }
  }

  private mutating func look(_ look: Look) {
    let between = readings.removeValue(forKey: look.place) ?? []
    if let before = last[look.place], before.bytes == look.bytes, before.isCurrent, look.isCurrent {
      comparisons += between.filter { $0.epoch == look.step.machine.epoch }.map {
        Comparison(look: before, reading: $0, after: look.step.event)
      }
    }
    last[look.place] = look
    looks.append(look)
  }
}

/// Hyper-V's reference TSC page: a time in units of 100 ns, computed from the TSC.
///
/// Source: the Hypervisor Top-Level Functional Specification, Timers, Partition Reference Time Enlightenment.
struct ReferencePage {
  static let size = 24
  static let unit: Int128 = 100

  let sequence: UInt32
  let scale: UInt64
  let offset: UInt64

  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.size else { return nil }
    func number(_ range: Range<Int>) -> UInt64 {
      bytes[range].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    (sequence, scale, offset) = (UInt32(number(0..<4)), number(8..<16), number(16..<24))
  }

  /// Whether a guest may use it: 0 says that it has to read the counter instead.
  var isValid: Bool { sequence != 0 }

  /// In nanoseconds, modulo 100 * 2^64.
  func time(atTSC tsc: UInt64) -> Int128 {
    Int128(tsc.multipliedFullWidth(by: scale).high &+ offset) * Self.unit
  }

  /// The time less that of a record which it was made beside. The offset is rounded to a unit, and so is what the guest
  /// computes, each by less than one unit, and the scale is rounded by less than 1 per 2^64 cycles.
  static func allowedError(since cycles: Int128) -> Interval {
    let scale = unit * abs(cycles) / (1 << 64) + 1
    return Interval(-2 * unit - scale, unit + scale)
  }
}
