internal import ABIChecker

/// Which pictures a report has: what was broken first, then what shows most.
struct Gallery {
  private let timelines: [Timeline]
  private let wanted: [String]
  private let line: HostLine?

  /// - Parameter broken: the histories that prove rules broken, by name.
  init(_ histories: [History], broken: [String]) {
    timelines = histories.map { Timeline($0) }
    wanted = broken
    let all = histories.flatMap(\.events)
    let line = HostLine(all, kHz: histories.first?.header.host.tscKHz)
    // Histories of one boot share a line; others have each their own.
    self.line = line.flatMap { $0.error < 5000 ? $0 : nil }
  }

  /// Figures of system time, of the spread, and of updates.
  var time: [Figure] {
    figures(["rewrite", "new-pair", "replug"], most: 2) { timeline in
      let own =
        line
        ?? HostLine(timeline.history.events, kHz: timeline.history.header.host.tscKHz)
      return own.flatMap { Figure.residual(timeline, line: $0) }
    }
  }

  var spread: [Figure] {
    figures(["many", "hotplug", "rewrite"], most: 2) { Figure.spread($0) }
  }

  var updates: [Figure] {
    figures(["old-msr", "guest-stopped", "rewrite"], most: 2) { timeline in
      timeline.looks.count >= 3 ? Figure.updates(timeline) : nil
    }
  }

  /// The first figures that can be drawn: of histories that prove something broken if there are any, of those that are
  /// known to show much, and then of any.
  private func figures(
    _ favourites: [String], most: Int, _ draw: (Timeline) -> Figure?
  ) -> [Figure] {
    func rank(_ timeline: Timeline) -> Int {
      let header = timeline.history.header
      let favourite = favourites.firstIndex(of: header.scenario)
      let broken = wanted.firstIndex(of: header.name)
      // What was broken comes before what usually shows much.
      return (broken ?? 900) * 1000 + (favourite ?? favourites.count)
    }
    var figures: [Figure] = []
    let ranked = timelines.enumerated().sorted {
      (rank($0.element), $0.offset) < (rank($1.element), $1.offset)
    }
    for (_, timeline) in ranked where figures.count < most {
      if let figure = draw(timeline) { figures.append(figure) }
    }
    return figures
  }
}
