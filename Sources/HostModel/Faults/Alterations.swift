internal import ABIChecker
internal import PVClock

// What is done to histories.

extension Event {
  var isSettingOfOffset: Bool { if case .setTSCOffset = action { true } else { false } }
  var isSetting: Bool { if case .setClock = action { true } else { false } }
  var isSwitch: Bool {
    if case .hostChanged("clocksource", _, nil) = action { true } else { false }
  }
  var isSuspend: Bool { if case .hostChanged("suspend", _, nil) = action { true } else { false } }
  var page: ClockPage? { if case .page(_, _, let page) = action { page } else { nil } }

  /// The vCPU whose TSC or record this is about.
  fileprivate var vcpu: Int? {
    switch (action, actor) {
    case (.setTSCOffset(let vcpu, _), _), (.hostWroteMSR(let vcpu, _, _), _): vcpu
    case (_, .vcpu(let vcpu)): vcpu
    default: nil
    }
  }
}

extension History {
  mutating func alter(_ body: (inout Action) -> Void) {
    for index in events.indices { body(&events[index].action) }
  }

  /// The records that the host looked at.
  mutating func alterPages(_ body: (Event, inout ClockPage) -> Void) {
    for index in events.indices {
      guard case .page(let vcpu, let address, var page) = events[index].action else { continue }
      body(events[index], &page)
      events[index].action = .page(vcpu: vcpu, address: address, page: page)
    }
  }

  /// What guests read.
  mutating func alterReadings(_ body: (Event, inout Reading) -> Void) {
    for index in events.indices {
      guard case .read(let address, let ring, var reading, let settled) = events[index].action
      else { continue }
      body(events[index], &reading)
      events[index].action = .read(
        address: address, ring: ring, reading: reading, settled: settled)
    }
  }

  /// After such moves of its TSC a vCPU reads its record as it was before, until it registers again.
  mutating func keepRecords(onlyUnstable: Bool = false, after isMove: (Event) -> Bool) {
    var last: [Int: ClockPage] = [:]
    var stale: Set<Int> = []
    for index in events.indices {
      let event = events[index]
      if isMove(event), let vcpu = event.vcpu { stale.insert(vcpu) }
      switch (event.action, event.actor) {
      case (.vmCreated, _): (last, stale) = ([:], [])
      case (.wroteMSR(let msr, _, _), .vcpu(let vcpu))
      where msr == Hex(MSR.systemTime) || msr == Hex(MSR.systemTimeOld):
        stale.remove(vcpu)
      case (.read(let address, let ring, var reading, let settled), .vcpu(let vcpu)):
        if stale.contains(vcpu), let page = last[vcpu],
          !onlyUnstable || !page.flags.contains(.tscStable)
        {
          reading.page = page
          events[index].action = .read(
            address: address, ring: ring, reading: reading, settled: settled)
        }
        last[vcpu] = reading.page
      default: break
      }
    }
  }

  /// Readings between the two kinds of event are off by so many nanoseconds.
  mutating func step(
    by nanoseconds: Int64, after isStart: (Event) -> Bool, until isEnd: (Event) -> Bool
  ) {
    var isOff = false
    for index in events.indices {
      if isStart(events[index]) { isOff = true } else if isEnd(events[index]) { isOff = false }
      guard isOff,
        case .read(let address, let ring, var reading, let settled) = events[index].action
      else { continue }
      reading.page.systemTime &+= UInt64(bitPattern: nanoseconds)
      events[index].action = .read(
        address: address, ring: ring, reading: reading, settled: settled)
    }
  }

  /// What KVM_GET_TSC_KHZ should have returned after a refusal.
  mutating func forgetRefusedFrequencies() {
    var kept: UInt32?
    var isRefused = false
    alter { action in
      switch action {
      case .vmCreated: isRefused = false
      case .setTSCKHz(_, _, let error): isRefused = error != nil
      case .tscKHz(let vcpu, let kHz):
        if isRefused, let kept { action = .tscKHz(vcpu: vcpu, kHz: kept) } else { kept = kHz }
      default: break
      }
    }
  }

  /// A guest's TSC as it would be if it ran at the frequency set above the host's.
  mutating func speedUp() {
    let host = UInt64(header.host.tscKHz ?? 1)
    var asked: UInt64?
    var origin: UInt64?
    for index in events.indices {
      switch events[index].action {
      case .vmCreated: (asked, origin) = (nil, nil)
      case .setTSCKHz(_, let kHz, nil):
        (asked, origin) = (UInt64(kHz) > host * 5 / 4 ? UInt64(kHz) : nil, nil)
      case .read(let address, let ring, var reading, let settled):
        guard let asked else { continue }
        let start = origin ?? reading.tsc
        origin = start
        let value = reading.value
        reading.tsc =
          start &+ (reading.tsc &- start) / host * asked
          &+ (reading.tsc &- start) % host * asked / host
        (reading.page.tscTimestamp, reading.page.systemTime) = (reading.tsc, value)
        events[index].action = .read(
          address: address, ring: ring, reading: reading, settled: settled)
      default: break
      }
    }
  }

  /// A VM whose frequency is set before its first vCPU is made, and refused after that.
  mutating func setFrequencyOfVM() {
    let kHz = header.host.tscKHz ?? 0
    alter { action in
      if case .capability("KVM_CAP_VM_TSC_CONTROL", _) = action {
        action = .capability(name: "KVM_CAP_VM_TSC_CONTROL", value: 1)
      }
    }
    for action in [
      Action.vmCreated, .setTSCKHz(vcpu: nil, kHz: kHz + 100, error: nil), .vcpuCreated(vcpu: 0),
      .tscKHz(vcpu: 0, kHz: kHz + 100), .setTSCKHz(vcpu: nil, kHz: kHz, error: "EINVAL"),
    ] { append(action, after: 1000) }
  }

  /// The suspend as it would have been with a sleep.
  mutating func sleep(seconds: UInt64, isCounted: Bool) {
    let nanoseconds = seconds * 1_000_000_000
    var isOver = false
    alter { action in
      switch action {
      case .hostChanged("suspend", _, nil): isOver = true
      case .hostClock("CLOCK_BOOTTIME", let value) where isOver:
        action = .hostClock(name: "CLOCK_BOOTTIME", nanoseconds: value + nanoseconds)
      default: break
      }
    }
    step(by: Int64(nanoseconds), after: { $0.isSuspend }, until: { _ in false })
  }

  /// Two looks at a record, 330 s apart, which was updated meanwhile.
  mutating func waitForUpdate() {
    guard let look = events.first(where: { $0.page != nil }),
      case .page(let vcpu, let address, var page) = look.action
    else { return }
    header.scenario = ScenarioName.periodicSync.rawValue
    events = [
      Event(
        number: 1, actor: .host, began: look.began, ended: look.ended, action: look.action)
    ]
    page.version &+= 2
    append(.page(vcpu: vcpu, address: address, page: page), after: 330_000_000_000)
  }

  /// One more event of the host, so many nanoseconds after the last one.
  private mutating func append(_ action: Action, after nanoseconds: UInt64) {
    guard let last = events.last else { return }
    let cycles = nanoseconds / 1_000_000 * UInt64(header.host.tscKHz ?? 1)
    let moment = Instant(tsc: last.ended.tsc + cycles, raw: last.ended.raw + nanoseconds)
    events.append(
      Event(
        number: events.count + 1, actor: .host, began: moment, ended: moment, action: action))
  }
}
