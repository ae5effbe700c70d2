internal import PVClock

/// A look at a record's bit 1, PVCLOCK_GUEST_STOPPED, and what is known of it.
struct StoppedLook {
  enum Concern {
    /// The host asked, and the vCPU has not entered since.
    case beforeEntry
    /// The vCPU entered after the host asked.
    case delivered
    /// The host asked for another vCPU, and both have entered.
    case elsewhere
    /// The record was updated, its guest left the bit alone.
    case kept
    /// The guest cleared the bit, and the record was updated.
    case cleared
    /// A record that the vCPU took after the bit had come in the one before it.
    case moved
    /// The host asked, and took the record away before the vCPU entered; this is the record after it.
    case pending
  }

  var concern: Concern
  var vcpu: Int
  var expected: Bool
  var page: ClockPage
  /// Why it is expected, then where it was looked at.
  var events: [Event]

  var isSet: Bool { page.flags.contains(.guestStopped) }
}

/// An answer of `KVM_KVMCLOCK_CTRL`, with what the vCPU had registered.
struct StoppedAnswer {
  var event: Event
  var vcpu: Int
  var errno: Errno
  /// Whether a record of this vCPU is registered; one that was seen to be served, if `isServed`.
  var isRegistered: Bool
  var isServed: Bool
  /// Why none is: "never registered", …
  var reason: String
}

/// Follows bit 1 of every record through a history, as far as the ABI says what it is.
struct StoppedWalk {
  private(set) var looks: [StoppedLook] = []
  private(set) var answers: [StoppedAnswer] = []
  private var vcpus: [Int: State] = [:]
  /// Bit 1 of each record, where it is known.
  private var bits: [UInt64: Bool] = [:]
  /// Records that were registered, or memory that somebody wrote: not as it was when the machine was made.
  private var used: Set<UInt64> = []
  private var isFilled = false
  private var told: (event: Event, vcpu: Int)?

  private struct State {
    var address: UInt64?
    var reason = "never registered"
    var isServed = false
    var asked: Event?
    var delivered: Event?
    var orphan: Event?
    var cleared: Event?
    var moved: Event?
    var last: (event: Event, page: ClockPage)?
    /// When this vCPU entered last.
    var entered = 0
  }

  init(_ timeline: Timeline) {
    for event in timeline.history.events { take(event) }
  }

  private mutating func take(_ event: Event) {
    if case .vcpu(let vcpu) = event.actor { enter(vcpu, event) }
    switch (event.action, event.actor) {
    case (.vmCreated, _): (vcpus, bits, used, isFilled, told) = ([:], [:], [], false, nil)
    case (.filled, _): (bits, isFilled) = ([:], true)
    case (.vcpuCreated(let vcpu), _): vcpus[vcpu] = State()
    case (.replugged(let vcpu, _), _): revoke(vcpu, "reset")
    case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
      write(value.value, vcpu, event, byHost: true)
    case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      write(value.value, vcpu, event, byHost: false)
    case (.poked(let address, let value), .vcpu(let vcpu)):
      poke(address.value, value.value, vcpu, event)
    case (.toldStopped(let vcpu, let errno), _): tell(vcpu, errno, event)
    case (.page(let vcpu, let address, let page), _): see(page, address.value, vcpu, event)
    case (.read(let address, _, let reading, true), .vcpu(let vcpu)):
      see(reading.page, address.value, vcpu, event)
    default: break
    }
  }

  /// KVM serves what it was asked for before the guest runs.
  private mutating func enter(_ vcpu: Int, _ event: Event) {
    guard var state = vcpus[vcpu] else { return }
    state.entered = event.number
    if let asked = state.asked, let address = state.address {
      (state.asked, state.delivered, state.cleared, state.moved) = (nil, asked, nil, nil)
      bits[address] = true
    }
    vcpus[vcpu] = state
  }

  private mutating func revoke(_ vcpu: Int, _ reason: String) {
    guard var state = vcpus[vcpu] else { return }
    if state.asked != nil { state.orphan = state.asked }
    state = State(reason: reason, orphan: state.orphan, entered: state.entered)
    vcpus[vcpu] = state
  }

  private mutating func write(_ value: UInt64, _ vcpu: Int, _ event: Event, byHost: Bool) {
    guard value & 1 == 1 else {
      return revoke(vcpu, byHost ? "disabled by the host" : "disabled by the guest")
    }
    guard var state = vcpus[vcpu], state.address != value & ~1 else { return }
    let address = value & ~1
    let wasSet = state.address.flatMap { bits[$0] } == true
    if state.asked != nil { state.orphan = state.asked }
    state = State(address: address, orphan: state.orphan, entered: state.entered)
    if used.insert(address).inserted, !isFilled {
      bits[address] = false
      if wasSet { state.moved = event }
    }
    if state.orphan != nil { bits[address] = nil }
    vcpus[vcpu] = state
  }

  private mutating func poke(_ address: UInt64, _ value: UInt64, _ vcpu: Int, _ event: Event) {
    for (id, state) in vcpus {
      guard let record = state.address, address &- record < UInt64(ClockPage.size) else { continue }
      // The word with tsc_to_system_mul's neighbours: shift, flags, padding.
      let isFlags = address &- record == 28
      let wasSet = bits[record] == true
      if isFlags { bits[record] = value >> 9 & 1 == 1 }
      if isFlags, wasSet, bits[record] == false { vcpus[id]?.cleared = event }
      vcpus[id]?.delivered = nil
      vcpus[id]?.last = nil
    }
  }

  private mutating func tell(_ vcpu: Int, _ errno: Errno, _ event: Event) {
    guard let state = vcpus[vcpu] else { return }
    answers.append(
      StoppedAnswer(
        event: event, vcpu: vcpu, errno: errno, isRegistered: state.address != nil,
        isServed: state.isServed, reason: state.reason))
    guard errno == .none else { return }
    if state.address == nil {
      vcpus[vcpu]?.orphan = event
    } else {
      vcpus[vcpu]?.asked = event
      told = (event, vcpu)
    }
  }

  private mutating func see(_ page: ClockPage, _ address: UInt64, _ vcpu: Int, _ event: Event) {
    guard var state = vcpus[vcpu], state.address == address else { return }
    defer {
      state.last = (event, page)
      if page.scale.isNormalized { state.isServed = true }
      bits[address] = page.flags.contains(.guestStopped)
      vcpus[vcpu] = state
    }
    func note(_ concern: StoppedLook.Concern, _ expected: Bool, _ cause: Event) {
      looks.append(
        StoppedLook(
          concern: concern, vcpu: vcpu, expected: expected, page: page, events: [cause, event]))
    }
    if let orphan = state.orphan {
      note(.pending, true, orphan)
      if page.flags.contains(.guestStopped) { state.orphan = nil }
      return
    }
    guard let known = bits[address], state.isServed || page.scale.isNormalized else { return }
    let isUpdated = state.last.map { $0.page.version != page.version } ?? false
    if let asked = state.asked {
      if !known { note(.beforeEntry, false, asked) }
    } else if let delivered = state.delivered {
      note(.delivered, true, delivered)
      state.delivered = nil
    } else if known, let last = state.last, isUpdated {
      note(.kept, true, last.event)
    } else if !known, let cleared = state.cleared, isUpdated {
      note(.cleared, false, cleared)
    } else if !known, let moved = state.moved {
      note(.moved, false, moved)
    }
    if !known, let told, told.vcpu != vcpu, state.entered > told.event.number,
      let other = vcpus[told.vcpu], other.entered > told.event.number
    {
      note(.elsewhere, false, told.event)
    }
  }
}
