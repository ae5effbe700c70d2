@testable import ABIChecker

/// Machines that share one host's time: each has its own builder, and takes over the time of the one before.
struct Sisters {
  var hosts: [HistoryBuilder]
  private var history: History

  init(_ host: HistoryBuilder, count: Int = 3) {
    history = host.history
    hosts = Array(repeating: host, count: count)
  }

  /// Does something with one machine, and goes on from when it ended.
  mutating func with(_ name: Int, _ work: (inout HistoryBuilder) -> Void) {
    hosts[name].events = []
    work(&hosts[name])
    for var event in hosts[name].events {
      event.machine = name
      event.number = history.events.count + 1
      history.events.append(event)
    }
    for other in hosts.indices { hosts[other].time = hosts[name].time }
  }

  /// Every machine hears of it.
  mutating func switchClocksource(to source: SimulatedTime.Source, heardBy heard: Set<Int>) {
    with(0) { $0.switchClocksource(to: source) }
    for other in hosts.indices where !source.allowsMasterClock && other > 0 && heard.contains(other)
    {
      hosts[other].pair = nil
      hosts[other].refreshAll()
    }
  }

  var finished: History { history }
}

extension Script {
  static func severalVMs(
    _ host: HistoryBuilder, _ fault: (inout Sisters, Int) -> Void = { _, _ in }
  ) -> History {
    var vms = Sisters(host)
    func make(_ name: Int) {
      vms.with(name) { host in
        host.machine(0, 1)
        for id in [0, 1] { host.register(id) }
        host.settleAndLook()
      }
    }
    func lookAtAll() {
      for name in 0..<3 {
        vms.with(name) { host in
          for id in [0, 1] { host.read(id) }
          host.settleAndLook()
        }
      }
    }
    for name in 0..<3 { make(name) }
    for name in 0..<3 {
      lookAtAll()
      vms.with(name) { $0.setClock(1 << 50) }
      fault(&vms, name)
      lookAtAll()
      for msr in [MSR.systemTimeOld, MSR.systemTime] {
        vms.with(name) { $0.register(0, msr: msr) }
        lookAtAll()
      }
      make(name)
    }
    lookAtAll()
    return vms.finished
  }

  static func clocksourceTwice(
    _ host: HistoryBuilder, rounds: Int = 2, heardBy heard: Set<Int> = [0, 1, 2],
    destroyed: Bool = true
  ) -> History {
    guard host.time.source == .tsc else {
      var host = host
      host.host(.lacking(what: "a tsc clocksource", evidence: "the host has another one"))
      return host.history
    }
    var vms = Sisters(host, count: 4)
    for name in 0..<4 {
      vms.with(name) { host in
        host.machine(0, 1)
        for id in [0, 1] { host.register(id) }
        host.settleAndLook()
      }
    }
    if destroyed { vms.with(3) { $0.machine() } }
    for _ in 0..<rounds {
      for source in [SimulatedTime.Source.hpet, .tsc] {
        vms.switchClocksource(to: source, heardBy: heard)
        for name in 0..<3 {
          vms.with(name) { host in
            for id in [0, 1] { host.read(id) }
            if source == .tsc { host.setClock(1 << 50) }
            host.settleAndLook()
          }
        }
      }
    }
    return vms.finished
  }
}
