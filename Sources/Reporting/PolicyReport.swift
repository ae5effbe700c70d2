public import ABIChecker

/// The matrix of policies and guests, for people.
public enum PolicyReport {
  public static func text(_ matrix: PolicyMatrix) -> String {
    let heads = ["guest"] + matrix.rows.map(\.host)
    let lines = matrix.guests.indices.map { guest in
      [matrix.guests[guest]] + matrix.rows.map { $0.outcomes[guest].cell }
    }
    let widths = heads.indices.map { column in
      ([heads] + lines).map { $0[column].count }.max() ?? 0
    }
    let table = ([heads] + lines).map { line in
      zip(line, widths).map { Plain.pad($0, to: $1) }
        .joined(separator: "  ").trimmedAtEnd
    }
    let width = (matrix.guests + matrix.rows.map(\.host)).map(\.count).max() ?? 0
    let guests = zip(matrix.guests, matrix.summaries).map { "  \(Plain.pad($0, to: width))  \($1)" }
    let hosts = matrix.rows.map { "  \(Plain.pad($0.host, to: width))  \($0.summary)" }
    return
      (table + ["", "Guests"] + guests + ["", "Policies"] + hosts).joined(separator: "\n") + "\n"
  }

  /// The same as a table for documents.
  static func table(_ matrix: PolicyMatrix) -> Markdown {
    Markdown.table(
      ["guest"] + matrix.rows.map { Markdown.code($0.host) },
      matrix.guests.indices.map { guest in
        ["\(Markdown.code(matrix.guests[guest])): \(matrix.summaries[guest])"]
          + matrix.rows.map { "\($0.outcomes[guest].cell)" }
      })
  }
}

extension PolicyOutcome {
  /// A few words, with the worst step in nanoseconds.
  public var cell: String {
    switch self {
    case .works: "works"
    case .wentBack(let by): "went back \(by) ns"
    case .restarted(let by): "restarted, -\(by) ns"
    case .underflow(let by): "underflow, -\(by) ns"
    case .notShown: "not shown"
    }
  }
}

extension String {
  fileprivate var trimmedAtEnd: String {
    var text = self
    while text.last == " " { text.removeLast() }
    return text
  }
}
