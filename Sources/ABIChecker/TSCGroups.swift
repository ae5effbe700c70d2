/// Which vCPUs have one TSC, and which certainly have not, as the host's writes of IA32_TSC leave them.
///
/// KVM takes a value that is less than 1 s of cycles from where the TSC is that the host wrote last for an attempt to
/// synchronise the two, and gives both vCPUs one TSC. A vCPU that is made gets the TSC of those written last.
struct TSCGroups {
  /// Those with the TSC that the host wrote last; empty if it wrote none.
  private(set) var together: Set<Int> = []
  /// Those that had the TSC before that one, which is more than 1 s away.
  private(set) var apart: Set<Int> = []
  /// Whose value is the TSC of `together`.
  private(set) var leader: Int?
  /// What KVM compares the next value with: the value that the host wrote last, or 0 at a vCPU's creation.
  private var last: (event: Event, value: UInt64)?
  private var isLastWritten = false
  /// What the host wrote last, as long as nothing else moved the vCPU's TSC; whether the vCPU keeps it.
  private(set) var written: [Int: Write] = [:]

  struct Write {
    let event: Event
    let value: UInt64
    /// What the TSC has if the value is kept.
    let offset: TSCOffsetRange
    /// False where KVM gives the vCPU another TSC, or may do so.
    var isKept: Bool
    /// Whether it is the first one on this machine.
    let isFirst: Bool
    /// Whether the vCPU had been in the guest.
    let hadEntered: Bool
  }

  private let hertz: Int128
  /// In parts per billion: KVM measures the time between two writes with another clock than the TSC.
  private let rateBound: Int128

  init(_ timeline: Timeline) {
    hertz = timeline.hertz
    rateBound = timeline.rateBound
  }

  /// Whether all vCPUs of the machine have one TSC that the host wrote.
  func hold(allOf machine: MachineState) -> Bool {
    !together.isEmpty && apart.isEmpty && together.count == machine.vcpus
  }

  mutating func take(_ step: Step) {
    if case .vcpuCreated(let vcpu) = step.event.action {
      (last, isLastWritten) = ((step.event, 0), false)
      if leader != nil { together.insert(vcpu) }
    }
    guard let vcpu = TSCMoves.vcpu(movedBy: step.event) else { return }
    written[vcpu] = nil
    switch step.event.action {
    case .hostWroteMSR(_, let msr, let value) where msr == Hex(MSR.tsc):
      take(value.value, of: vcpu, step)
    // Of IA32_TSC_ADJUST too, by the guest: the others stay where they are.
    case .wroteMSR:
      together.remove(vcpu)
      apart.remove(vcpu)
    case .hostWroteMSR: break
    default: (together, apart, leader, last) = ([], [], nil, nil)
    }
  }

  private mutating func take(_ value: UInt64, of vcpu: Int, _ step: Step) {
    let event = step.event
    defer { (last, isLastWritten) = ((event, value), true) }
    // Zero asks for the TSC of the others.
    if value == 0, leader != nil {
      together.insert(vcpu)
      apart.remove(vcpu)
      return
    }
    written[vcpu] = Write(
      event: event, value: value, offset: TSCOffsetRange(of: value, in: event), isKept: false,
      isFirst: leader == nil, hadEntered: step.before.lastEntry != nil)
    let distance = distance(of: value, event)
    let isNear = distance.map { max(abs($0.lower), abs($0.upper)) < hertz } ?? false
    if isNear, leader != nil {
      together.insert(vcpu)
      apart.remove(vcpu)
      return
    }
    let isFar = distance.map { $0.lower > hertz || $0.upper < -hertz } ?? false
    apart = isFar && isLastWritten ? apart.union(together).subtracting([vcpu]) : []
    (together, leader) = ([vcpu], vcpu)
    written[vcpu]?.isKept = isFar
  }

  /// From where the TSC is that the host wrote last to `value`, in cycles.
  private func distance(of value: UInt64, _ event: Event) -> Interval? {
    guard let last, hertz > 0 else { return nil }
    let offset = TSCOffsetRange(of: last.value, in: last.event)
    let distance = TSCOffsetRange(of: value, in: event).distance(from: offset)
    let slack = share(rateBound, of: difference(event.ended.tsc, last.event.began.tsc))
    return Interval(distance.lower - slack, distance.upper + slack)
  }
}

extension Timeline {
  /// Cycles a second of the vCPUs' TSCs; 0 if not known.
  var hertz: Int128 { Int128(history.header.host.tscKHz ?? 0) * 1000 }
}

/// By how much a vCPU's TSC is ahead of the host's: what one look at it leaves open.
struct TSCOffsetRange: Sendable {
  /// The least, modulo 2^64.
  private var least: UInt64
  private var width: Int128

  /// The vCPU's TSC had `value` at some moment of `event`.
  init(of value: UInt64, in event: Event) {
    least = value &- event.ended.tsc
    width = max(0, difference(event.ended.tsc, event.began.tsc))
  }

  init(exactly offset: UInt64) { (least, width) = (offset, 0) }

  /// This one less `other`, in cycles.
  func distance(from other: Self) -> Interval {
    let between = difference(least, other.least)
    return Interval(between - other.width, between + width)
  }

  func mayBe(_ other: Self) -> Bool { distance(from: other).contains(0) }

  /// What is left if `other` holds as well; `other` alone if the two can't both.
  mutating func narrow(by other: Self) {
    let between = difference(other.least, least)
    let (lower, upper) = (max(0, between), min(width, between + other.width))
    guard lower <= upper else {
      self = other
      return
    }
    least = least &+ UInt64(truncatingIfNeeded: lower)
    width = upper - lower
  }
}

extension Step {
  /// By how much the TSC of the vCPU is ahead of the host's, if the guest read it, or the host did for it.
  var tscOffsetRange: TSCOffsetRange? {
    switch (event.action, event.actor) {
    case (.read(_, _, let reading, _), .vcpu): TSCOffsetRange(of: reading.tsc, in: event)
    case (.hostReadMSR(_, let msr, let value), _) where msr == Hex(MSR.tsc):
      TSCOffsetRange(of: value.value, in: event)
    default: nil
    }
  }
}
