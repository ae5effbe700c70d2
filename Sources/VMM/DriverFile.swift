internal import ABIChecker
internal import FoundationEssentials

/// What a JSON file says of a VMM: how its program is called, and what to do for each verb (docs/vmm.md).
struct DriverFile: Hashable {
  /// One thing to do.
  enum Step: Hashable {
    case command([String])
    /// A request on the unix socket that `api` names; its body is JSON.
    case request(method: String, path: String, body: JSONValue?)
  }

  /// A process, and what to do once it runs.
  struct Launch: Hashable {
    var program: [String]
    var steps: [Step]
  }

  enum ConsoleKind: Hashable {
    /// The program's stdin and stdout, a terminal.
    case stdio
    /// A unix socket that the program listens on.
    case socket(String)
  }

  var name: String
  var console: ConsoleKind
  var api: String?
  /// `start`, `restore`, `receive`.
  var launches: [String: Launch]
  var verbs: [VMMVerb: [Step]]

  static let launchNames = ["start", "restore", "receive"]
  static let placeholders = ["dir", "id", "guest", "flat", "vcpus", "most", "state", "place"]

  /// What it can do.
  var ability: Set<VMMVerb> {
    var ability = Set(verbs.keys)
    if launches["start"] != nil { ability.insert(.start) }
    if launches["restore"] != nil { ability.insert(.restore) }
    if launches["receive"] == nil { ability.remove(.migrate) }
    return ability.union([.quit])
  }

  // MARK: Reading

  init(json: [UInt8]) throws(VMMError) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(json)),
      case .object(let members) = value
    else { throw .badDriver("it is no JSON object") }
    let steps = Set(VMMVerb.allCases.map(\.rawValue)).subtracting(["start", "restore"])
    try Self.require(
      members, among: ["about", "name", "console", "api"] + Self.launchNames + steps.sorted(),
      "the file")
    guard let name = members["name"]?.string, !name.isEmpty else {
      throw .badDriver("\"name\" is to be the VMM's name")
    }
    self.name = name
    switch members["console"] {
    case .string("stdio"): console = .stdio
    case .object(let console):
      guard console.count == 1, let path = console["socket"]?.string else { fallthrough }
      self.console = .socket(try Self.checked(path))
    default: throw .badDriver("\"console\" is to be \"stdio\" or {\"socket\": PATH}")
    }
    switch members["api"] {
    case nil: api = nil
    case .string(let path)?: api = try Self.checked(path)
    default: throw .badDriver("\"api\" is to be the path of a unix socket")
    }
    (launches, verbs) = ([:], [:])
    for key in Self.launchNames {
      guard let value = members[key] else { continue }
      guard case .object(let launch) = value else {
        throw .badDriver("\"\(key)\" is to be {\"program\": [WORD, …], \"steps\": [STEP, …]}")
      }
      try Self.require(launch, among: ["program", "steps"], "\"\(key)\"")
      launches[key] = Launch(
        program: try Self.words(launch["program"], "\"program\" of \"\(key)\""),
        steps: try readSteps(launch["steps"] ?? .array([]), key))
    }
    guard launches["start"] != nil else { throw .badDriver("it has no \"start\"") }
    for verb in VMMVerb.allCases where steps.contains(verb.rawValue) {
      guard let value = members[verb.rawValue] else { continue }
      verbs[verb] = try readSteps(value, verb.rawValue)
    }
  }

  private static func require(
    _ members: [String: JSONValue], among known: [String], _ place: String
  ) throws(VMMError) {
    for key in members.keys.sorted() where !known.contains(key) {
      throw .badDriver("\(place) has \"\(key)\"; it may have \(known.joined(separator: ", "))")
    }
  }

  private func readSteps(_ value: JSONValue, _ key: String) throws(VMMError) -> [Step] {
    guard case .array(let values) = value else {
      throw .badDriver("\"\(key)\" is to be a list of steps")
    }
    var steps: [Step] = []
    for value in values {
      guard case .object(let step) = value else {
        throw .badDriver("a step of \"\(key)\" is no object")
      }
      if step["run"] != nil {
        try Self.require(step, among: ["run"], "a step of \"\(key)\"")
        steps.append(.command(try Self.words(step["run"], "\"run\" of \"\(key)\"")))
      } else {
        try Self.require(step, among: ["method", "path", "body"], "a step of \"\(key)\"")
        guard let method = step["method"]?.string, let path = step["path"]?.string,
          path.hasPrefix("/"), !(method + path).contains(where: \.isWhitespace)
        else {
          throw .badDriver(
            "a step of \"\(key)\" is to be {\"run\": [WORD, …]} or {\"method\": …, \"path\": \"/…\", \"body\": …}"
          )
        }
        guard api != nil else {
          throw .badDriver("\"\(key)\" has a request, but \"api\" is absent")
        }
        if let body = step["body"] { _ = try Self.checked(body.text) }
        steps.append(.request(method: method, path: try Self.checked(path), body: step["body"]))
      }
    }
    return steps
  }

  private static func words(_ value: JSONValue?, _ place: String) throws(VMMError) -> [String] {
    guard case .array(let values)? = value, !values.isEmpty else {
      throw .badDriver("\(place) is to be a list of words")
    }
    var words: [String] = []
    for value in values {
      guard let word = value.string, !word.contains("\0") else {
        throw .badDriver("\(place) has a word that is no text")
      }
      words.append(try checked(word))
    }
    return words
  }

  /// The text, if it has no placeholder but those that exist.
  private static func checked(_ text: String) throws(VMMError) -> String {
    for match in text.matches(of: /\{([a-z]+)\}/) where !placeholders.contains(String(match.1)) {
      throw .badDriver(
        "{\(match.1)} stands for nothing; there are \(placeholders.map { "{\($0)}" }.joined(separator: " "))"
      )
    }
    return text
  }
}

/// What the placeholders of a driver's file stand for.
struct Placeholders {
  var values: [String: String]

  func fill(_ text: String) -> String {
    text.replacing(/\{([a-z]+)\}/) { values[String($0.1)] ?? String($0.0) }
  }

  /// A string that is nothing but a number's placeholder becomes a number.
  func fill(_ value: JSONValue) -> JSONValue {
    switch value {
    case .string(let text):
      if ["{vcpus}", "{most}"].contains(text), let number = Double(fill(text)) {
        .number(number)
      } else {
        .string(fill(text))
      }
    case .array(let values): .array(values.map(fill))
    case .object(let members): .object(members.mapValues(fill))
    case .null, .bool, .number: value
    }
  }
}
