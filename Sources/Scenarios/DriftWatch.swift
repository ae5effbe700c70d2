internal import ABIChecker
internal import PVClock

/// A machine that lives as long as a soak, and how far its clock has come.
///
/// Its history is one of scenario `rate` however long that lasts: how the machine was made, the first look and the newest.
final class DriftWatch {
  private let host: Host
  private let cancellation: Cancellation
  private var stage: Stage?
  private var state = HostState.now()
  /// How many events every history begins with.
  private var kept = 0
  private var first: ClockPage?
  /// Machines that were given up because the master clock got a new pair, which steps the clock and ends the drift.
  private(set) var newPairs = 0

  init(host: Host, cancellation: Cancellation) {
    self.host = host
    self.cancellation = cancellation
  }

  /// Makes a machine if there is none, and looks at both clocks for the first time.
  func begin(seed: UInt64) {
    guard stage == nil else { return }
    let stage = Stage(.rate, host: host, seed: seed, attempt: 1, cancellation: cancellation)
    state = HostState.now()
    stage.history.header.host.clocksource = state.clocksource
    do {
      try stage.makeMachine(vcpus: [0])
      try stage.noteTSC(0)
      try stage.register(0)
      try sample(stage)
    } catch { return }
    first = stage.lastPage
    kept = stage.history.events.count
    self.stage = stage
  }

  /// Looks at both clocks again.
  ///
  /// - Returns: nil where there is nothing to compare: no machine, or one whose master clock got a new pair.
  func look() -> History? {
    guard let stage else { return nil }
    stage.history.events.removeSubrange(kept...)
    do { try sample(stage) } catch { return giveUp(.failed(reason: "\(error)")) }
    if let change = HostState.now().change(since: state) { return giveUp(.disturbed(how: change)) }
    guard let first, let last = stage.lastPage, last.hasSamePair(as: first) || !first.isStable
    else {
      newPairs += 1
      self.stage = nil
      return nil
    }
    return stage.history
  }

  /// An entry before and after: a new pair for the master clock reaches the record by then at the latest.
  private func sample(_ stage: Stage) throws {
    try stage.enter(0)
    try stage.sampleRate()
    try stage.enter(0)
    stage.look(0)
  }

  /// The next round begins with a new machine.
  private func giveUp(_ action: Action) -> History? {
    stage?.note(action)
    defer { stage = nil }
    return stage?.history
  }
}

extension ClockPage {
  fileprivate var isStable: Bool { flags.contains(.tscStable) }
}

extension Stage {
  /// The record as the host saw it last.
  fileprivate var lastPage: ClockPage? {
    for event in history.events.reversed() {
      if case .page(_, _, let page) = event.action { return page }
    }
    return nil
  }
}
