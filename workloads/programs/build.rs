//! A small program to be compiled: a word counter, a calculator and a matrix, over generated input.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(i64),
    Operator(char),
    Open,
    Close,
}

#[derive(Debug)]
enum Fault {
    Unexpected(char, usize),
    Unbalanced,
    Empty,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unexpected(found, place) => write!(f, "unexpected {found:?} at {place}"),
            Fault::Unbalanced => f.write_str("unbalanced"),
            Fault::Empty => f.write_str("empty"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut found = Vec::new();
    let mut letters = text.chars().enumerate().peekable();
    while let Some((place, letter)) = letters.next() {
        found.push(match letter {
            ' ' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '+' | '-' | '*' => Token::Operator(letter),
            '0'..='9' => {
                let mut value = letter as i64 - '0' as i64;
                while let Some((_, digit @ '0'..='9')) = letters.peek() {
                    value = value * 10 + (*digit as i64 - '0' as i64);
                    letters.next();
                }
                Token::Number(value)
            }
            other => return Err(Fault::Unexpected(other, place)),
        });
    }
    Ok(found)
}

fn rank(operator: char) -> u8 {
    if operator == '*' { 2 } else { 1 }
}

fn evaluate(text: &str) -> Result<i64, Fault> {
    let (mut output, mut waiting) = (VecDeque::new(), Vec::new());
    for token in tokens(text)? {
        match token {
            Token::Number(_) => output.push_back(token),
            Token::Operator(operator) => {
                while let Some(Token::Operator(top)) = waiting.last() {
                    if rank(*top) < rank(operator) {
                        break;
                    }
                    output.extend(waiting.pop());
                }
                waiting.push(token);
            }
            Token::Open => waiting.push(token),
            Token::Close => loop {
                match waiting.pop() {
                    Some(Token::Open) => break,
                    Some(other) => output.push_back(other),
                    None => return Err(Fault::Unbalanced),
                }
            },
        }
    }
    while let Some(token) = waiting.pop() {
        output.push_back(token);
    }
    let mut stack: Vec<i64> = Vec::new();
    for token in output {
        let value = match token {
            Token::Number(value) => value,
            Token::Operator(operator) => {
                let (right, left) = stack.pop().zip(stack.pop()).ok_or(Fault::Empty)?;
                match operator {
                    '+' => left.wrapping_add(right),
                    '-' => left.wrapping_sub(right),
                    _ => left.wrapping_mul(right),
                }
            }
            _ => return Err(Fault::Unbalanced),
        };
        stack.push(value);
    }
    stack.pop().ok_or(Fault::Empty)
}

trait Monoid: Clone {
    fn one() -> Self;
    fn times(&self, other: &Self) -> Self;
}

#[derive(Clone, Debug, PartialEq)]
struct Matrix<const N: usize>([[u64; N]; N]);

impl<const N: usize> Monoid for Matrix<N> {
    fn one() -> Self {
        let mut unit = [[0; N]; N];
        (0..N).for_each(|i| unit[i][i] = 1);
        Matrix(unit)
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = [[0u64; N]; N];
        for (i, row) in product.iter_mut().enumerate() {
            for (j, cell) in row.iter_mut().enumerate() {
                *cell = (0..N).fold(0u64, |sum, k| {
                    sum.wrapping_add(self.0[i][k].wrapping_mul(other.0[k][j]))
                });
            }
        }
        Matrix(product)
    }
}

fn power<M: Monoid>(base: &M, mut exponent: u32) -> M {
    let (mut base, mut result) = (base.clone(), M::one());
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.times(&base);
        }
        base = base.times(&base);
        exponent >>= 1;
    }
    result
}

struct Numbers(u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        Some(self.0 >> 33)
    }
}

fn main() {
    let mut numbers = Numbers(1);
    let words: Vec<String> = numbers.by_ref().take(5000).map(|n| format!("w{:x}", n % 700)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &words {
        *counts.entry(word).or_default() += 1;
    }
    let mut by_count: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (word, count) in &counts {
        by_count.entry(*count).or_default().push(word);
    }
    for (count, mut words) in by_count.into_iter().rev().take(3) {
        words.sort_unstable();
        println!("{count}: {}", words.join(" "));
    }
    for text in ["1 + 2 * (3 - 4) * 5", "(7 + 8) * (9 + 10)", "2 * (3", "4 $ 4", ""] {
        match evaluate(text) {
            Ok(value) => println!("{text} = {value}"),
            Err(fault) => println!("{text}: {fault}"),
        }
    }
    println!("{:?}", power(&Matrix([[1, 1], [1, 0]]), 90).0);
    println!("{:?}", power(&Matrix([[1, 2, 3], [4, 5, 6], [7, 8, 10]]), 12).0);
    println!("{:?}", power(&Matrix([[2, 0, 0, 1], [0, 3, 0, 1], [0, 0, 5, 1], [1, 1, 1, 1]]), 20).0);
    let longest = numbers.take(1000).map(|n| n.to_string()).max_by_key(|text| (text.len(), text.clone()));
    println!("{longest:?}");
}
