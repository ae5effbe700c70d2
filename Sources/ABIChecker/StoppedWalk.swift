internal import PVClock

/// What is known of bit 1, PVCLOCK_GUEST_STOPPED, of the record that a vCPU has registered, and by which event.
enum StoppedBit {
  /// The bit was read.
  case seen(Bool, Event)
  /// The memory was fresh when this write registered it; `afterSet` if the record before had the bit.
  case fresh(Event, afterSet: Bool)
  /// `KVM_KVMCLOCK_CTRL` succeeded, and the vCPU has not entered since.
  case requested(Event, wasClear: Bool)
  /// The vCPU has entered since `KVM_KVMCLOCK_CTRL`.
  case delivered(Event)
  /// The guest cleared it.
  case cleared(Event)
  /// `KVM_KVMCLOCK_CTRL` succeeded, and the record was taken away before the vCPU entered.
  case pending(Event)

  var isSet: Bool? {
    switch self {
    case .seen(let isSet, _): isSet
    case .delivered: true
    case .fresh, .cleared, .requested(_, wasClear: true): false
    case .requested, .pending: nil
    }
  }
}

/// A vCPU's record, and what was known of its bit 1 before it was read.
struct StoppedLook {
  let event: Event
  let vcpu: Int
  let page: ClockPage
  /// nil if nothing was known.
  let bit: StoppedBit?
  /// Whether the record was updated since it was read last.
  let isUpdated: Bool
  /// The last `KVM_KVMCLOCK_CTRL`, if it was for another vCPU and this one has entered since.
  let otherRequest: Event?

  var isSet: Bool { page.flags.contains(.guestStopped) }
}

/// Follows bit 1 of every registered record of one machine.
struct StoppedWalk {
  private(set) var looks: [StoppedLook] = []
  /// The answers of `KVM_KVMCLOCK_CTRL` for vCPUs whose record KVM was seen to write.
  private(set) var answers: [(event: Event, vcpu: Int, error: Errno)] = []
  private var bits: [Int: StoppedBit] = [:]
  private var records: [Int: UInt64] = [:]
  private var lastRead: [Int: ClockPage] = [:]
  private var request: (event: Event, vcpu: Int)?
  /// Where the host or the guest wrote since the machine was made.
  private var written: [UInt64] = []
  private var isAllWritten = false

  init(_ machine: MachineRun) {
    for step in machine.steps { take(step) }
  }

  private mutating func take(_ step: Step) {
    let event = step.event
    if let vcpu = step.vcpu {
      // KVM serves a request before the guest runs.
      if step.isEntry, case .requested(let request, _) = bits[vcpu] {
        bits[vcpu] = .delivered(request)
      }
      if step.before.record != step.after.record { change(vcpu, step) }
    }
    switch event.action {
    case .vcpuCreated(let vcpu): bits[vcpu] = nil
    case .filled, .slotSet, .slotDeleted, .protected, .remapped:
      for vcpu in records.keys { forget(vcpu) }
      isAllWritten = true
    case .poked(let address, let value): poke(address.value, value.value, event)
    case .wroteMSR(let msr, let value, nil) where MSR.isWallClock(msr): written.append(value.value)
    case .hostWroteMSR(_, let msr, let value) where MSR.isWallClock(msr):
      written.append(value.value)
    case .toldStopped(let vcpu, let error): answer(vcpu, error, step)
    case .page(let vcpu, let address, let page): look(page, at: address.value, of: vcpu, step)
    case .read(let address, _, let reading, settled: true):
      if let vcpu = step.vcpu { look(reading.page, at: address.value, of: vcpu, step) }
    default: break
    }
  }

  /// The vCPU got another record, or none. vCPUs that share one have no bit of their own.
  private mutating func change(_ vcpu: Int, _ step: Step) {
    let wasSet = bits[vcpu]?.isSet == true
    for record in [step.before.record, step.after.record].compactMap({ $0 }) {
      for (other, theirs) in records where Self.overlap(record, theirs) { forget(other) }
    }
    forget(vcpu)
    records[vcpu] = step.after.record
    guard let record = step.after.record else { return }
    if bits[vcpu] == nil, !isAllWritten, !written.contains(where: { Self.overlap($0, record) }) {
      bits[vcpu] = .fresh(step.event, afterSet: wasSet)
    }
    written.append(record)
  }

  /// The record is another one, or somebody else wrote it; a request goes on.
  private mutating func forget(_ vcpu: Int) {
    lastRead[vcpu] = nil
    switch bits[vcpu] {
    case .requested(let request, _), .pending(let request): bits[vcpu] = .pending(request)
    default: bits[vcpu] = nil
    }
  }

  private mutating func poke(_ address: UInt64, _ value: UInt64, _ event: Event) {
    written.append(address)
    for (vcpu, record) in records where address &- record < UInt64(ClockPage.size) {
      let wasSet = bits[vcpu]?.isSet == true
      forget(vcpu)
      // tsc_shift, flags and padding are one word.
      guard address &- record == 28, bits[vcpu] == nil else { continue }
      let isSet = value >> 9 & 1 == 1
      bits[vcpu] = wasSet && !isSet ? .cleared(event) : .seen(isSet, event)
    }
  }

  private mutating func answer(_ vcpu: Int, _ error: Errno, _ step: Step) {
    if lastRead[vcpu] != nil { answers.append((step.event, vcpu, error)) }
    guard error == .none else { return }
    guard step.after.record != nil else {
      bits[vcpu] = .pending(step.event)
      return
    }
    bits[vcpu] = .requested(step.event, wasClear: bits[vcpu]?.isSet == false)
    request = (step.event, vcpu)
  }

  /// A record without a multiplier was never written; one that two vCPUs share has two histories.
  private mutating func look(_ page: ClockPage, at address: UInt64, of vcpu: Int, _ step: Step) {
    let isShared = records.contains { $0.key != vcpu && Self.overlap($0.value, address) }
    guard records[vcpu] == address, page.scale.isNormalized, !isShared else { return }
    let known = bits[vcpu]
    let other = request.flatMap { request in
      request.vcpu != vcpu && (step.after.lastEntry ?? .min) > request.event.number
        ? request.event : nil
    }
    let look = StoppedLook(
      event: step.event, vcpu: vcpu, page: page, bit: known,
      isUpdated: lastRead[vcpu].map { $0.version != page.version } ?? false, otherRequest: other)
    looks.append(look)
    lastRead[vcpu] = page
    switch known {
    case .requested: break
    case .fresh, .cleared, .pending: if look.isSet { bits[vcpu] = .seen(true, step.event) }
    default: bits[vcpu] = .seen(look.isSet, step.event)
    }
  }

  private static func overlap(_ one: UInt64, _ other: UInt64) -> Bool {
    let size = UInt64(ClockPage.size)
    return one &- other < size || other &- one < size
  }
}
