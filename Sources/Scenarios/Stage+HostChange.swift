internal import ABIChecker
internal import VMBuilder

// What only a scenario with `changesHost` may do; the runner puts everything back.

extension Stage {
  /// Does something to the host and writes down whether it was refused.
  private func changeHost(_ what: String, _ value: String, _ body: () -> Int32) -> Bool {
    let error = note(
      { .hostChanged(what: what, value: value, error: $0 == 0 ? nil : Errno(number: $0)) }, of: body
    )
    return error == 0
  }

  /// The clocksource that the host has now, and another one that it offers, which is no TSC.
  func otherClocksource() -> (home: String, other: String)? {
    let home = HostNames.clocksource() ?? "unknown"
    let offered = HostFile.line(HostSettings.availableClocksources) ?? ""
    let other = ["hpet", "acpi_pm"].first(
      where: offered.split(separator: " ").map(String.init).contains)
    guard home == "tsc", let other else {
      lacks("a tsc clocksource and another one", "the host has \(home), and offers \(offered)")
      return nil
    }
    return (home, other)
  }

  func switchClocksource(to name: String) throws -> Bool {
    guard
      changeHost("clocksource", name, { HostFile.write(name, to: HostSettings.clocksource) })
    else { return false }
    // The kernel takes it over at its next tick.
    for _ in 0..<200 where HostNames.clocksource() != name { try sleep(milliseconds: 5) }
    let now = HostNames.clocksource() ?? "unknown"
    if now != name {
      lacks("a switch of the clocksource to \(name)", "it is \(now) after a second")
    }
    return now == name
  }

  /// Has the NTP code make the host's clocks faster by so much, except CLOCK_MONOTONIC_RAW.
  func slewClock(partsPerMillion: Int) -> Bool {
    changeHost("frequency", "\(partsPerMillion)") {
      do throws(ClockFrequency.Refused) {
        try ClockFrequency.set(partsPerMillion << 16)
        return 0
      } catch {
        return error.errno
      }
    }
  }

  /// Moves CLOCK_REALTIME at once.
  func stepRealtime(seconds: Int) -> Bool {
    changeHost("realtime", "\(seconds)") {
      do throws(ClockFrequency.Refused) {
        try RealtimeClock.step(by: seconds * 1_000_000_000)
        return 0
      } catch {
        return error.errno
      }
    }
  }

  /// A suspend that ends after the freezing of processes: KVM is told of it like of a real one. Nil if this host has no
  /// such thing.
  func pretendToSuspend() -> Bool? {
    // Read again: with any other value the host would go to sleep.
    guard HostFile.set("freezer", in: HostSettings.suspendTest) else {
      lacks("a suspend for test", "no \(HostSettings.suspendTest) that takes \"freezer\"")
      return nil
    }
    // The default is to stay frozen for 5 s; a kernel without the parameter does.
    _ = HostFile.write("0", to: HostSettings.suspendTestDelay)
    let states = HostFile.line("/sys/power/state")?.split(separator: " ") ?? []
    guard let state = states.first(where: { $0 == "freeze" || $0 == "mem" }) else {
      lacks("a suspend for test", "/sys/power/state offers neither freeze nor mem")
      return nil
    }
    return changeHost("suspend", "freezer") {
      HostFile.write(String(state), to: "/sys/power/state")
    }
  }
}
