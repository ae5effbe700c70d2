internal import ABIChecker
internal import Glibc
internal import GuestImages
internal import VMBuilder

/// What a script works with: machines of one VMM, and a history in which everything done to them is written down.
final class Session {
  let monitor: any VirtualMachineMonitor
  let vcpus: Int
  private(set) var history: History
  private let isCancelled: () -> Bool
  private var machines: [any MonitoredMachine] = []
  private(set) var hasBooted = false
  private let place: Workplace
  private var states = 0

  init(
    _ scenario: ScenarioName, _ monitor: any VirtualMachineMonitor, _ plan: VMMPlan,
    attempt: Int, host: HostFacts, isCancelled: @escaping () -> Bool
  ) throws(VMMError) {
    self.monitor = monitor
    self.isCancelled = isCancelled
    vcpus = plan.vcpus
    var host = host
    host.vmm = monitor.name
    history = History(
      header: Header(scenario: scenario.rawValue, seed: plan.seed, attempt: attempt, host: host))
    place = try Workplace()
    for (verb, clock) in plan.declared.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      note(.declared(over: verb, clock: clock), of: 0)
    }
  }

  // MARK: Writing down

  private func record(
    _ actor: Actor, _ began: Moment, _ ended: Moment, _ action: Action, of machine: Int
  ) {
    history.events.append(
      Event(
        number: history.events.count + 1, actor: actor,
        began: Instant(tsc: began.tsc, raw: began.raw),
        ended: Instant(tsc: ended.tsc, raw: ended.raw), action: action, machine: machine))
  }

  func note(_ action: Action, of machine: Int) {
    let began = Moment.before()
    record(.host, began, .after(), action, of: machine)
  }

  /// Why the script could not go on. What a VMM refuses it lacks; that it ended is judged by a rule of its own.
  func note(_ error: VMMError) {
    switch error {
    case .refused(let verb, let reason):
      note(.lacking(what: "\(verb.rawValue) under \(monitor.name)", evidence: reason), of: 0)
    case .ended: note(.lacking(what: "a VMM that goes on", evidence: "\(error)"), of: 0)
    default: note(.failed(reason: "\(error)"), of: 0)
    }
  }

  /// The VMM does something; a refusal is written down, too, and thrown.
  private func did<Value>(
    _ verb: VMMVerb, _ machine: Int, other: Int? = nil, _ body: () throws(VMMError) -> Value
  ) throws(VMMError) -> Value {
    let began = Moment.before()
    do {
      let value = try body()
      record(.host, began, .after(), .vmm(verb: verb, other: other, failure: nil), of: machine)
      return value
    } catch {
      record(
        .host, began, .after(), .vmm(verb: verb, other: other, failure: Self.failure(error)),
        of: machine)
      throw error
    }
  }

  private static func failure(_ error: VMMError) -> VMMFailure {
    switch error {
    case .refused(_, let reason): .refused(reason: reason)
    case .ended: .ended(how: "\(error)")
    default: .silent(about: "\(error)")
    }
  }

  // MARK: Verbs

  /// A machine that boots; its number.
  func start(spare: Int = 0) throws(VMMError) -> Int {
    let number = machines.count
    let began = Moment.before()
    let machine = try did(.start, number) { () throws(VMMError) in
      let machine = try monitor.start(vcpus: vcpus, spare: spare, from: .boot)
      try machine.console.awaitHello(milliseconds: 60_000, again: true)
      return machine
    }
    machines.append(machine)
    try awaitVCPUs(number, vcpus, since: began)
    hasBooted = true
    return number
  }

  /// Asks until so many vCPUs answer; their registration is what they did meanwhile.
  ///
  /// - Parameter first: the first one that starts.
  private func awaitVCPUs(
    _ machine: Int, _ count: Int, from first: Int = 0, since began: Moment
  ) throws(VMMError) {
    let end = Stream.now + 20_000
    while true {
      let reply = try machines[machine].console.ask("r")
      guard reply.answer.vcpus.count >= count else {
        guard Stream.now < end else {
          throw .tooFewVCPUs(
            answered: reply.answer.vcpus.count, expected: count, milliseconds: 20_000)
        }
        continue
      }
      for (vcpu, seen) in reply.answer.vcpus.sorted(by: { $0.key < $1.key }) where vcpu >= first {
        record(
          .vcpu(vcpu), began, reply.all,
          .readMSR(msr: Hex(UInt64(MSR.systemTime)), value: Hex(seen.found), fault: nil),
          of: machine)
        record(
          .vcpu(vcpu), began, reply.all,
          .wroteMSR(
            msr: Hex(UInt64(MSR.systemTime)), value: Hex(Self.record(of: vcpu) | 1),
            fault: Self.fault(seen.fault)),
          of: machine)
        if seen.fault != 0 {
          throw .badAnswer(
            "vcpu\(vcpu)'s WRMSR of MSR_KVM_SYSTEM_TIME_NEW raised exception vector \(seen.fault - 1)"
          )
        }
      }
      _ = try ask(machine)
      return
    }
  }

  private static func fault(_ code: UInt64) -> Fault? {
    code == 0 ? nil : Fault(vector: UInt32(truncatingIfNeeded: code - 1), errorCode: 0, address: 0)
  }

  static func record(of vcpu: Int) -> UInt64 {
    UInt64(VMM_BLOCKS) + UInt64(vcpu) << UInt64(VMM_BLOCK_SHIFT) + UInt64(VMM_RECORD)
  }

  func pause(_ machine: Int) throws(VMMError) {
    try did(.pause, machine) { () throws(VMMError) in try machines[machine].pause() }
  }
  func resume(_ machine: Int) throws(VMMError) {
    try did(.resume, machine) { () throws(VMMError) in try machines[machine].resume() }
  }

  func quit(_ machine: Int) {
    _ = try? did(.quit, machine) { () throws(VMMError) in machines[machine].quit() }
  }

  /// The number of the saved state.
  func save(_ machine: Int) throws(VMMError) -> Int {
    states += 1
    let state = states
    try did(.save, machine, other: state) { () throws(VMMError) in
      try machines[machine].save(to: path(state))
    }
    return state
  }

  private func path(_ state: Int) -> String { "\(place.path)/state\(state)" }

  /// A machine that goes on from a saved state; it may have to be resumed.
  func restore(_ state: Int, spare: Int = 0) throws(VMMError) -> Int {
    let number = machines.count
    machines.append(
      try did(.restore, number, other: state) { () throws(VMMError) in
        let machine = try monitor.start(vcpus: vcpus, spare: spare, from: .file(path(state)))
        try machine.awaitState()
        return machine
      })
    return number
  }

  /// The machine that the guest runs on now; it has to be resumed if it was paused on the way.
  func migrate(_ machine: Int, pausing: Bool = false) throws(VMMError) -> Int {
    let number = machines.count
    let socket = "\(place.path)/to\(number)"
    let target = try monitor.start(vcpus: vcpus, spare: 0, from: .migration(socket))
    try did(.migrate, machine, other: number) { () throws(VMMError) in
      if pausing {
        try machines[machine].migratePaused(to: socket) { () throws(VMMError) in try pause(machine)
        }
      } else {
        try machines[machine].migrate(to: socket)
      }
      try target.awaitState()
    }
    machines.append(target)
    return number
  }

  /// A migration to a place where nobody listens.
  func migrateNowhere(_ machine: Int) throws(VMMError) {
    try ifAllowed { () throws(VMMError) in
      try did(.migrate, machine) { () throws(VMMError) in
        try machines[machine].migrate(to: "\(place.path)/nowhere")
      }
    }
  }

  func reset(_ machine: Int) throws(VMMError) {
    let began = Moment.before()
    try did(.reset, machine) { () throws(VMMError) in
      try machines[machine].reset()
      try machines[machine].console.awaitHello(milliseconds: 30_000)
    }
    try awaitVCPUs(machine, vcpus, since: began)
  }

  /// Something that a VMM may refuse, without more.
  func ifAllowed(_ body: () throws(VMMError) -> Void) throws(VMMError) {
    do { try body() } catch {
      guard case .refused = error else { throw error }
    }
  }

  func plug(_ machine: Int) throws(VMMError) {
    let began = Moment.before()
    try did(.plug, machine) { () throws(VMMError) in try machines[machine].plug() }
    _ = try ask(machine, "n")
    try awaitVCPUs(machine, vcpus + 1, from: vcpus, since: began)
  }

  func unplug(_ machine: Int) throws(VMMError) {
    try did(.unplug, machine) { () throws(VMMError) in
      try machines[machine].unplug()
      // The guest lets it go, as ACPI has it.
      _ = try machines[machine].console.ask("e")
      try machines[machine].awaitUnplugged()
    }
    _ = try ask(machine)
  }

  // MARK: The guest

  /// Asks all vCPUs, and writes down what they saw. 'w' and 'o': they register again first.
  ///
  /// A late answer says little of when it was given (the rules let 10 ms pass at most): it is followed by another
  /// question, up to ten times.
  @discardableResult
  func ask(_ machine: Int, _ request: Character = "r") throws(VMMError) -> GuestAnswer {
    var (answer, nanoseconds) = try askOnce(machine, request)
    for _ in 0..<10 where request == "r" && nanoseconds > 5_000_000 {
      (answer, nanoseconds) = try askOnce(machine, request)
    }
    return answer
  }

  /// The answer, and how long it took until all vCPUs had answered.
  private func askOnce(
    _ machine: Int, _ request: Character
  ) throws(VMMError) -> (GuestAnswer, nanoseconds: UInt64) {
    let reply = try machines[machine].console.ask(request)
    let msr: UInt32? = request == "w" ? MSR.systemTime : request == "o" ? MSR.systemTimeOld : nil
    let answers = reply.answer.vcpus.sorted { $0.key < $1.key }
    for (vcpu, seen) in answers where msr != nil {
      record(
        .vcpu(vcpu), reply.began, vcpu == 0 ? reply.first : reply.all,
        .wroteMSR(
          msr: Hex(UInt64(msr!)), value: Hex(Self.record(of: vcpu) | 1),
          fault: Self.fault(seen.fault)),
        of: machine)
    }
    if let wall = reply.answer.wall, wall.fault == 0 {
      record(
        .vcpu(0), reply.began, reply.first,
        .readWallClock(version: wall.version, seconds: wall.seconds, nanoseconds: wall.nanoseconds),
        of: machine)
    }
    for (vcpu, seen) in answers {
      record(
        .vcpu(vcpu), reply.began, vcpu == 0 ? reply.first : reply.all,
        .sampled(address: Hex(Self.record(of: vcpu)), result: seen.result), of: machine)
    }
    return (reply.answer, reply.all.raw - reply.began.raw)
  }

  func noteRealtime(_ machine: Int) {
    let began = Moment.before()
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    let ended = Moment.after()
    record(
      .host, began, ended,
      .hostClock(
        name: "CLOCK_REALTIME",
        nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)),
      of: machine)
  }

  func wait(milliseconds: Int) throws(VMMError) {
    let end = Stream.now + milliseconds
    while Stream.now < end {
      if isCancelled() { throw .cancelled }
      Stream.nap()
    }
  }

  func end() {
    for machine in machines { machine.quit() }
    machines = []
  }
}
